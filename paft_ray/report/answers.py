"""How the arms answer: the fraction that names a label, probability on the labels, and templates under which an arm
gives one answer whatever the example is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from paft_ray.metrics import Measure
from paft_ray.metrics.collapse import collapsed_templates
from paft_ray.report.inputs import Measured

MIN_ROWS = 20
"""With fewer rows under a template, "over 95 %" is all of them."""


def label_rates(measured: Measured) -> dict[str, dict[str, float | None]]:
    """Arm -> `named_rate`, the fraction of unconstrained answers that name a label, `label_ended_rate`, the fraction
    that ended at their first token, a label, and `label_mass`, the mean probability that an answer begins with one.
    None where the task has no labels, or nothing was asked."""
    found = {}
    for arm, rows in _by_arm(measured.outcomes).items():
        asked = rows.filter(pc.is_valid(rows["behavior"]))
        named = pc.is_valid(asked["named"])
        ended = pc.and_(named, pc.equal(asked["num_tokens"], 1))
        found[arm] = {
            "named_rate": _mean(named) if measured.has_labels else None,
            "label_ended_rate": _mean(ended) if measured.has_labels else None,
            "label_mass": _mean(rows["label_mass"]),
        }
    return found


def _mean(values: pa.ChunkedArray) -> float | None:
    found = pc.mean(values.cast("float64")).as_py()
    return None if found is None else float(found)


def _by_arm(outcomes: pa.Table) -> dict[str, pa.Table]:
    return {arm: outcomes.filter(pc.field("arm") == arm) for arm in pc.unique(outcomes["arm"]).to_pylist()}


def collapses(outcomes: pa.Table, measure: Measure) -> dict[str, list[dict[str, Any]]]:
    """Arm -> its collapsed templates by seed, as results.json holds them: one answer, or nothing that could be parsed,
    on over 95 % of at least `MIN_ROWS` rows."""
    rows = outcomes.filter(pc.is_valid(outcomes[value_column(measure)]))
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in pc.unique(outcomes["arm"]).to_pylist()}
    answered = "predicted" if measure == "knowledge" else "named"
    for collapse in collapsed_templates(rows, answered, min_rows=MIN_ROWS):
        row = asdict(collapse)
        found[row.pop("arm")].append(row)
    return found


def value_column(measure: Measure) -> str:
    """The column of outcomes with the score by a measure."""
    return "correct" if measure == "knowledge" else measure
