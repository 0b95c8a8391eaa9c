"""Tables and sentences about the axes of a suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paft_ray.report.axes import UNCHANGED, Varied, WorstCase, axis_values, worst_cases
from paft_ray.report.format import percent, points, span
from paft_ray.report.metric_tables import FigureTable, built, figure, interval


@dataclass(frozen=True, kw_only=True)
class AxesReport:
    """What a report says about axes."""

    values: Mapping[str, Any]
    """As `axis_values`."""
    tables: Sequence[FigureTable]
    worst: Sequence[WorstCase]
    findings: Sequence[str]

    @classmethod
    def of(cls, varied: Varied, confidence: float) -> AxesReport:
        """Of the outcomes of a suite."""
        values, headline = axis_values(varied, confidence), next(iter(varied.by_measure))
        return cls(
            values=values,
            tables=[
                _spread_table(values, confidence, headline),
                *(_level_table(axis, found, confidence) for axis, found in values.items() if found["levels"]),
            ],
            worst=worst_cases(varied, values),
            findings=_findings(values),
        )


def _spread_table(values: Mapping[str, Any], confidence: float, headline: str) -> FigureTable:
    """How far every axis moves every arm."""
    rows = {f"{axis}: {arm}": row for axis, found in values.items() for arm, row in found["arms"].items()}
    level = f"{100 * confidence:g} % interval"
    columns = [
        (f"std of {headline}", figure("std", percent)),
        (level, interval("", percent)),
        ("std of knowledge", figure("measures.knowledge.std", percent)),
        (level, interval("measures.knowledge", percent)),
        ("worst case", figure("worst.accuracy", percent)),
    ]
    caption = (
        "How far each axis moves the accuracy of a template, in percentage points: standard deviation over its levels, "
        f"without the noise of the test rows. Worst case: the lowest {headline} of any template and level, in percent."
    )
    return built("axes", caption, columns, rows, first="axis: arm")


def _level_table(axis: str, found: Mapping[str, Any], confidence: float) -> FigureTable:
    """Accuracy under each level of an axis, and what it changes."""
    rows = {f"{level}: {arm}": row["levels"][level] for level in found["levels"] for arm, row in found["arms"].items()}
    columns = [
        ("accuracy", figure("mean", percent)),
        ("change", figure("change", points)),
        (f"{100 * confidence:g} % interval", interval("", points)),
    ]
    changed = ", and the change against the same templates unchanged" if found["levels"][0] == UNCHANGED else ""
    caption = (
        f"Axis {axis}: accuracy in percent under each level, over {found['num_templates']} templates{changed}. "
        "Intervals are not corrected for their number."
    )
    return built(f"axis-{axis}", caption, columns, rows, first="level: arm")


def _findings(values: Mapping[str, Any]) -> list[str]:
    """The axis with the largest std of each arm, of those that have an interval."""
    found = []
    for arm in next(iter(values.values()))["arms"]:
        measured = {axis: of["arms"][arm] for axis, of in values.items() if of["arms"][arm]["low"] is not None}
        if not measured or len(values) < 2:
            continue
        axis = max(measured, key=lambda name: float(measured[name]["std"]))
        row = measured[axis]
        found.append(
            f"The axis with the largest std of {arm} is {axis}: {percent(row['std'])} points "
            f"({span(row['low'], row['high'], percent)}) over {values[axis]['num_levels']} levels."
        )
    return found
