"""`paft compare RUN RUN ...`: evaluated runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from paft_ray.echo import echo, echo_json, echo_table
from paft_ray.errors import UserError
from paft_ray.metrics import MIN_TEMPLATES_INTERVAL
from paft_ray.report.compare import EvaluatedRun, compare
from paft_ray.report.format import percent, points, probability, ratio, span
from paft_ray.report.inputs import Measured, check_current
from paft_ray.stages.resolved_run import stored_config
from paft_ray.storage.store import Store


def compare_runs(folders: Sequence[str], arms: Sequence[str], *, as_json: bool) -> None:
    """Prints tables, or the content of `compare` as JSON. `arms`: `A:B`, arm A of the earlier run against arm B of the
    later one. Raises `UserError` for fewer than two runs, one that comes twice, or one without an evaluation."""
    if len(folders) < 2:
        raise UserError(
            f"paft compare {' '.join(folders)}: at least two runs are needed; give the folders of evaluated runs"
        )
    runs = [Store(folder) for folder in folders]
    if twice := sorted({run.root for run in runs if [other.root for other in runs].count(run.root) > 1}):
        raise UserError(f"paft compare: {', '.join(twice)} comes twice; give each run once")
    found = compare([_evaluated(run) for run in runs], [_pair(given) for given in arms])
    if as_json:
        echo_json(found)
        return
    _show_arms(found)
    for pair in found["settings"]:
        rows = [row for row in found["differences"] if (row["first"], row["second"]) == (pair["first"], pair["second"])]
        _show_differences(f"{pair['first']} - {pair['second']}", rows, found["headline"])
        lines = [
            *_unpaired(rows),
            f"configuration, {pair['first']} -> {pair['second']}:",
            *(f"  {line}" for line in pair["differing"] or ["the same"]),
        ]
        echo("\n".join(lines))
    if num := sum(row["p_adjusted"] is not None for row in found["differences"]):
        echo(
            f"p: corrected for {num} comparison{'s' * (num > 1)} of {found['headline']} (Holm); other intervals are not"
        )


def _pair(given: str) -> tuple[str, str]:
    """Raises `UserError` for anything but `A:B`."""
    first, _, second = given.partition(":")
    if not first or not second or ":" in second:
        raise UserError(f"--arms {given}: give two arms as A:B, such as --arms paft:sft")
    return first, second


def _evaluated(run: Store) -> EvaluatedRun:
    check_current(run)
    return EvaluatedRun(name=run.name, config=stored_config(run), measured=Measured.of(run))


def _show_arms(found: dict[str, Any]) -> None:
    rows: list[tuple[str, ...]] = []
    last = []
    measures = list(
        dict.fromkeys(m for run in found["runs"].values() for row in run["arms"].values() for m in row["measures"])
    )
    for name, run in found["runs"].items():
        for arm, row in run["arms"].items():
            means = (percent(row["measures"].get(measure, {}).get("mean")) for measure in measures)
            spread = (percent(row[key]) for key in ("named_rate", "std", "decile", "worst", "best"))
            cells = f"{row['num_templates']} x {row['num_examples']}"
            rows.append((name, arm, *means, *spread, cells, str(row["num_seeds"])))
        last.append(len(rows) - 1)
    columns = ("run", "arm", *measures, "names a label", "std", "lowest decile", "worst", "best", "cells", "seeds")
    title = f"accuracy on held-out templates, %; spread is of {found['headline']}; cells: templates x examples"
    echo_table(columns, rows, title=title, last_of_part=last)


def _show_differences(pair: str, found: Sequence[dict[str, Any]], headline: str) -> None:
    others = list(dict.fromkeys(measure for row in found for measure in row["measures"]))
    rows = []
    for row in found:
        ratios, decile = row["std_ratio"] or {}, row["decile"] or {}
        rows.append(
            (
                row["arm"],
                points(row["mean"]),
                span(row["low"], row["high"], points),
                probability(row["p_adjusted"]),
                *(_with_interval(row["measures"].get(measure, {}), "mean", points) for measure in others),
                _with_interval(ratios, "value", ratio),
                _with_interval(decile, "mean", points),
                f"{row['num_templates']} x {row['num_examples']}",
                "yes" if row["paired"] else "no",
            )
        )
    columns = ("arm", headline, "interval", "p", *others, "ratio of stds", "lowest decile", "common cells", "paired")
    echo_table(columns, rows, title=f"{pair}, percentage points")


def _with_interval(found: Mapping[str, Any], key: str, form: Callable[[float | None], str]) -> str:
    low, high = found.get("low"), found.get("high")
    return form(found.get(key)) + ("" if low is None else f" ({span(low, high, form)})")


def _unpaired(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Why arms are not paired, a line for each."""
    lines = []
    for row in rows:
        if not row["paired"]:
            few = row["num_templates"] < MIN_TEMPLATES_INTERVAL
            reason = (
                f"{row['num_templates']} common templates, at least {MIN_TEMPLATES_INTERVAL} are needed"
                if few
                else "no common training seed"
            )
            lines.append(f"{row['arm']}: not paired ({reason}); the difference is that of the two means")
    return lines
