"""`paft compare RUN RUN ...`: evaluated runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paft_ray.echo import echo, echo_json, echo_table
from paft_ray.errors import UserError
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
            *_notes(rows, found["runs"]),
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
    for name, run in found["runs"].items():
        arms = run["arms"]
        measures = list(dict.fromkeys(measure for row in arms.values() for measure in row["measures"]))
        rows = [
            (
                arm,
                *(percent(row["measures"].get(measure, {}).get("mean")) for measure in measures),
                *(percent(row[key]) for key in ("named_rate", "std", "decile", "worst")),
            )
            for arm, row in arms.items()
        ]
        size = next(iter(arms.values()))
        seeds = max(row["num_seeds"] for row in arms.values())
        title = (
            f"{name}: {size['num_templates']} held-out templates x {size['num_examples']} examples, "
            f"{seeds} seed{'s' * (seeds > 1)}, %"
        )
        if "estimated" in size:
            title += f"; estimated, {percent(size['estimated']['budget'])} % of the cells were asked"
        echo_table(("arm", *measures, "named", "std", "decile", "worst"), rows, title=title)
    echo(f"named: unconstrained answers that name a label; std, lowest decile and worst are of {found['headline']}")


def _show_differences(pair: str, found: Sequence[dict[str, Any]], headline: str) -> None:
    rows: list[tuple[str, ...]] = []
    last = []
    for row in found:
        figures = [
            (headline, row, "mean", points),
            *((measure, gap, "mean", points) for measure, gap in row["measures"].items()),
            ("ratio of stds", row["std_ratio"] or {}, "value", ratio),
            ("lowest decile", row["decile"] or {}, "mean", points),
        ]
        cells = f"{row['num_templates']} x {row['num_examples']}"
        for place, (name, gap, key, form) in enumerate(figures):
            if gap.get(key) is not None:
                first = (row["arm"], probability(row["p_adjusted"]), cells) if place == 0 else ("", "", "")
                interval = span(gap.get("low"), gap.get("high"), form)
                rows.append((first[0], name, form(gap[key]), interval, *first[1:]))
        last.append(len(rows) - 1)
    columns = ("arm", "figure", "difference", "interval", "p", "cells")
    echo_table(columns, rows, title=f"{pair}, percentage points", last_of_part=last)


def _notes(rows: Sequence[dict[str, Any]], runs: dict[str, Any]) -> list[str]:
    """A line for each arm that is not paired or has no interval, and for each of which only some seeds count."""
    lines = []
    for row in rows:
        if row["no_interval"]:
            not_paired = f"not paired ({row['no_interval']}); the difference is that of the two means"
            no_interval = f"no interval ({row['no_interval']})"
            lines.append(f"{row['arm']}: {no_interval if row['paired'] else not_paired}")
        given = [(row[side], runs[row[side]]["arms"][row[f"{side}_arm"]]["num_seeds"]) for side in ("first", "second")]
        counted = [len(row["first_seeds"]), len(row["second_seeds"])]
        if counted != [number for _, number in given]:
            numbers = row["first_seeds"]
            seeds = f"seed{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
            lines.append(
                f"{row['arm']}: all figures of the difference are of the common {seeds} "
                f"({'; '.join(f'{name} has {number}' for name, number in given)})"
            )
    return lines
