"""What a report says where only a part of the cells was asked (`evaluate.budget` below 1): estimates of the full grid
instead of raw figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from paft_ray.metrics import ArmOutcomes
from paft_ray.metrics.cell_sampling import answer_strata
from paft_ray.metrics.outcomes import MISSING
from paft_ray.metrics.robustness import by_example
from paft_ray.report.format import percent, span
from paft_ray.report.inputs import Measured

if TYPE_CHECKING:
    from paft_ray.metrics.budget import GridEstimate

_KEPT = (
    "mean",
    "parse_failure_rate",
    "collapsed",
    "num_templates",
    "num_examples",
    "num_seeds",
)


def estimates(
    measured: Measured, arms: Mapping[str, ArmOutcomes], *, confidence: float, seed: int
) -> tuple[dict[str, ArmOutcomes], dict[str, GridEstimate]]:
    """(arms on all examples, unseen cells filled so that `by_template` is the estimate; arm -> estimate). The arms as
    they are and {} where all was asked.

    Several seeds are one mean answer per cell.
    """
    if measured.manifest.get("budget", 1) == 1:
        return dict(arms), {}
    from paft_ray.metrics.budget import estimate  # scikit-learn: seconds of every start, needed here alone

    answers = dict(
        zip(measured.outcomes["example_id"].to_pylist(), measured.outcomes["answer"].to_pylist(), strict=True)
    )
    answers |= {name: example.answer for name, example in measured.examples.items()}
    example_ids = tuple(sorted(answers))
    groups = answer_strata([answers[name] for name in example_ids])
    filled, found = {}, {}
    for name, arm in arms.items():
        whole = _on(example_ids, arm)
        cells, seen = by_example(whole)
        found[name] = estimate(
            np.where(seen, cells, np.nan), rng=np.random.default_rng(seed), groups=groups, confidence=confidence
        )
        accuracy = np.array([interval.value for interval in found[name].by_template])
        rest = (accuracy * len(example_ids) - cells.sum(axis=1)) / np.maximum((~seen).sum(axis=1), 1)
        cells = np.where(seen, cells, rest[:, None])
        filled[name] = replace(whole, correct=np.where(np.isnan(whole.correct), cells, whole.correct))
    return filled, found


def _on(example_ids: tuple[str, ...], arm: ArmOutcomes) -> ArmOutcomes:
    """The arm with a place for every example, those that were never asked too."""
    places = np.searchsorted(example_ids, arm.example_ids)
    shape = (*arm.correct.shape[:2], len(example_ids))
    correct, predicted = np.full(shape, np.nan), np.full(shape, MISSING, dtype=np.int64)
    correct[..., places] = arm.correct
    if arm.predicted is not None:
        predicted[..., places] = arm.predicted
    return replace(
        arm, example_ids=example_ids, correct=correct, predicted=None if arm.predicted is None else predicted
    )


def estimated_rows(
    rows: Mapping[str, Mapping[str, Any]], found: Mapping[str, GridEstimate]
) -> dict[str, dict[str, Any]]:
    """`arms` of results.json: with estimates, mean and std are theirs, `estimated` stands next to them and what needs
    every cell is None."""
    return {name: _row(row, found[name]) if name in found else dict(row) for name, row in rows.items()}


def _row(row: Mapping[str, Any], found: GridEstimate) -> dict[str, Any]:
    spread = row["std"] is not None  # None below MIN_TEMPLATES
    return {
        **{key: row[key] if key in _KEPT else None for key in row},
        "mean": found.mean.value,
        "std": found.std.value if spread and found.std else None,
        "estimated": {
            "budget": found.budget,
            "grid": found.grid,
            "mean": found.mean.value,
            "low": found.mean.low,
            "high": found.mean.high,
            "quantiles": {f"{q:g}": interval.value for q, interval in found.quantiles.items()} if spread else None,
            "refused": f"{100 * found.budget:.3g} % of the cells were answered; the figures that are null need every "
            "cell",
        },
    }


def budget_note(values: Mapping[str, Any], confidence: float) -> str | None:
    """One sentence for the reader; None where every cell was asked."""
    found = {name: row["estimated"] for name, row in values["arms"].items() if "estimated" in row}
    if not found:
        return None
    means = "; ".join(
        f"{name} {percent(e['mean'])} ({span(e['low'], e['high'], percent)})" for name, e in found.items()
    )
    budget = 100 * min(e["budget"] for e in found.values())
    return (
        f"Only {budget:.3g} % of the (template, example) cells were answered (evaluate.budget): mean, std and the "
        f"accuracy of each template are estimates of the full grid, means with {100 * confidence:g} % intervals "
        f"for these cells: {means}. Worst, best, fraction above the threshold and consistency need every cell and are "
        "not given; differences are over the cells that both arms answered, their intervals for other templates and "
        "rows."
    )
