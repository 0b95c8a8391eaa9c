"""`paft compare RUN RUN ...`: evaluated runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paft_ray.echo import echo, echo_json, echo_table
from paft_ray.errors import UserError
from paft_ray.metrics import MIN_TEMPLATES_INTERVAL
from paft_ray.report.compare import EvaluatedRun, compare
from paft_ray.report.format import percent, points, span
from paft_ray.report.inputs import Measured, check_current
from paft_ray.stages.resolved_run import stored_config
from paft_ray.storage.store import Store


def compare_runs(folders: Sequence[str], *, as_json: bool) -> None:
    """Prints tables, or the content of `compare` as JSON. Raises `UserError` for fewer than two runs, one that comes
    twice, or one without an evaluation."""
    if len(folders) < 2:
        raise UserError(
            f"paft compare {' '.join(folders)}: at least two runs are needed; give the folders of evaluated runs"
        )
    runs = [Store(folder) for folder in folders]
    if twice := sorted({run.root for run in runs if [other.root for other in runs].count(run.root) > 1}):
        raise UserError(f"paft compare: {', '.join(twice)} comes twice; give each run once")
    found = compare([_evaluated(run) for run in runs])
    if as_json:
        echo_json(found)
        return
    _show_arms(found)
    for pair in found["settings"]:
        rows = [row for row in found["differences"] if (row["first"], row["second"]) == (pair["first"], pair["second"])]
        _show_differences(f"{pair['first']} - {pair['second']}", rows)
        lines = [
            *_unpaired(rows),
            f"configuration, {pair['first']} -> {pair['second']}:",
            *(f"  {line}" for line in pair["differing"] or ["the same"]),
        ]
        echo("\n".join(lines))


def _evaluated(run: Store) -> EvaluatedRun:
    check_current(run)
    return EvaluatedRun(name=run.name, config=stored_config(run), measured=Measured.of(run))


def _show_arms(found: dict[str, Any]) -> None:
    rows: list[tuple[str, ...]] = []
    last = []
    for name, run in found["runs"].items():
        for arm, row in run["arms"].items():
            cells = f"{row['num_templates']} x {row['num_examples']}"
            rows.append(
                (
                    name,
                    arm,
                    *(percent(row[key]) for key in ("mean", "std", "worst", "best")),
                    cells,
                    str(row["num_seeds"]),
                )
            )
        last.append(len(rows) - 1)
    columns = ("run", "arm", "mean", "std", "worst", "best", "cells", "seeds")
    echo_table(columns, rows, title="accuracy on held-out templates, %; cells: templates x examples", last_of_part=last)


def _show_differences(pair: str, found: Sequence[dict[str, Any]]) -> None:
    rows = []
    for row in found:
        common = f"{row['num_templates']} x {row['num_examples']}"
        rows.append(
            (
                row["arm"],
                points(row["mean"]),
                span(row["low"], row["high"], points),
                common,
                "yes" if row["paired"] else "no",
            )
        )
    echo_table(("arm", "points", "interval", "common cells", "paired"), rows, title=pair)


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
