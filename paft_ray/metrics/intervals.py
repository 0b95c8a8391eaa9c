"""Paired differences of arms with t intervals, and what may be said of them in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from paft_ray.errors import UserError
from paft_ray.metrics.crossed import POWER, MeanEstimate, crossed_mean
from paft_ray.metrics.outcomes import ArmOutcomes, have_common_seeds, mean_over_seeds, on_common_seeds
from paft_ray.metrics.robustness import MIN_TEMPLATES_INTERVAL, insufficient_data_reason

PRIMARY = "paft-sft"
"""The comparison that is named beforehand where the configuration names none and both arms are there."""
MIN_SEEDS = 3
"""With fewer seeds nothing is said of other trainings: "better" is not."""
IntervalTarget = Literal["these cells", "other templates and rows"]
"""What an interval is for: the complete grid of these very templates and examples, or other draws of both."""
_SHOWN_AS_ZERO = 0.0005


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean score of one arm minus that of another, with a t interval."""

    first: str
    second: str
    mean: float
    low: float | None
    high: float | None
    confidence: float
    p_value: float | None
    """Of no difference, two-sided; see `difference`."""
    p_adjusted: float | None
    """The same, corrected for the differences reported together; `p_value` itself for a primary difference, and until
    `corrected` has seen them."""
    detectable: float | None
    """Minimum detectable effect: the true difference that comes out decisive with a chance of `POWER`, at the level
    that the correction leaves."""
    num_seeds: int
    """Seeds behind the comparison. With one the interval is for these weights."""
    insufficient_data_reason: str | None
    """Why there is no interval."""
    estimate: MeanEstimate | None = None
    """Standard error and degrees of freedom behind the interval."""
    grid: IntervalTarget = "other templates and rows"
    is_primary: bool = False
    """Named beforehand, so not corrected."""
    is_constant: bool = False
    """There is no interval because every cell has this difference."""

    @property
    def excludes_zero(self) -> bool:
        """The interval exists and lies on one side of zero."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    @property
    def decisive(self) -> bool:
        """The interval excludes zero, and the corrected p-value is below 1 - confidence."""
        return self.excludes_zero and self.p_adjusted is not None and self.p_adjusted < 1 - self.confidence


def difference(
    first: ArmOutcomes, second: ArmOutcomes, *, confidence: float, names: tuple[str, str] = ("paft", "sft")
) -> Difference:
    """Mean score of the first arm minus the second, with the t interval of `crossed_mean`: for other templates and
    examples, and for other trainings where there are several seeds; with one seed it is for these weights.

    Arms are paired by template, example and seed, see `on_common_seeds`; without a common seed their trainings are two
    samples. Cells that failed or were not asked in either arm are left out. The p-value is from the same t. Below
    `MIN_TEMPLATES_INTERVAL` templates there is a mean only, and where every cell has the same difference. Where
    templates fail rarely (under one in ten) the interval holds the truth somewhat less often than it says
    (docs/evaluation.md). Raises `ValueError` where ids differ.
    """
    _same_grid(first, second, names)
    if not have_common_seeds(first, second):
        values = mean_over_seeds(first.correct)[None] - mean_over_seeds(second.correct)[None]
        means = [*_per_seed(first.correct), *_per_seed(second.correct)]
        return _difference(values, means, names, confidence, min(len(first.seeds), len(second.seeds)))
    one, other = on_common_seeds(first, second)
    values = one.correct - other.correct
    per_seed = _per_seed(values)
    return _difference(values, per_seed, names, confidence, len(per_seed[0]))


def gain_over_average(
    arm: ArmOutcomes, singles: Sequence[ArmOutcomes], *, confidence: float, name: str = "paft"
) -> Difference:
    """Mean score of the arm minus that of the average single-template arm, with the interval of `difference`.

    `singles`: arms that were each trained on one template (several templates, or seeds of one); every arm and seed is
    one draw of such a training. Which template a baseline is trained on is chance, too, so its variance is in the
    interval where there are several. Raises `ValueError` without singles and where ids differ.
    """
    if not singles:
        raise ValueError("the gain over the average single template needs at least one such arm")
    for single in singles:
        _same_grid(arm, single, (name, "single template"))
    draws = np.concatenate([single.correct for single in singles])
    values = mean_over_seeds(arm.correct)[None] - mean_over_seeds(draws)[None]
    means = [*_per_seed(arm.correct), *_per_seed(draws)]
    pair = (name, "the average single template" if len(draws) > 1 else "single template")
    return _difference(values, means, pair, confidence, min(len(arm.correct), len(draws)))


def _difference(
    values: NDArray[np.float64],
    seed_means: Sequence[NDArray[np.float64]],
    names: tuple[str, str],
    confidence: float,
    num_seeds: int,
) -> Difference:
    found = crossed_mean(mean_over_seeds(values), seed_means)
    missing = insufficient_data_reason(values.shape[1], MIN_TEMPLATES_INTERVAL)
    is_constant = not missing and not found.has_variance
    if is_constant:
        missing = "the difference is the same in every cell, which tells nothing of others"
    low, high = (None, None) if missing else found.interval(confidence)
    return Difference(
        first=names[0],
        second=names[1],
        mean=found.value,
        low=low,
        high=high,
        confidence=confidence,
        p_value=None if missing else found.p_value,
        p_adjusted=None if missing else found.p_value,
        detectable=None if missing else found.detectable(confidence),
        num_seeds=num_seeds,
        insufficient_data_reason=missing,
        estimate=None if missing else found,
        is_constant=is_constant,
    )


def corrected(differences: Mapping[str, Difference], primary: str | None = None) -> dict[str, Difference]:
    """The differences with `p_adjusted` corrected for being reported together (Holm) and `detectable` at the level of
    Holm's first step; those without an interval do not count.

    The `primary` one (default: `PRIMARY`, where it is there) was named beforehand: it is not corrected and does not
    count. Raises `UserError` where it is not among the differences.
    """
    if primary is not None and primary not in differences:
        raise UserError(f"report.primary={primary}: no such difference; these are: {', '.join(differences)}")
    named = primary or PRIMARY
    tested = {name: gap.p_value for name, gap in differences.items() if gap.p_value is not None and name != named}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {
        name: replace(gap, is_primary=True) if name == named else _adjusted(gap, adjusted.get(name), len(tested))
        for name, gap in differences.items()
    }


def _adjusted(gap: Difference, p_value: float | None, comparisons: int) -> Difference:
    detectable = gap.estimate.detectable(gap.confidence, comparisons) if gap.estimate else gap.detectable
    return replace(gap, p_adjusted=p_value, detectable=detectable)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down method (1979): the chance of any false claim stays below the level,
    whatever depends on what."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


def mean_interval(arm: ArmOutcomes, *, confidence: float) -> tuple[float, float] | None:
    """Interval of the arm's mean score, as in `difference`; None below `MIN_TEMPLATES_INTERVAL` templates and where all
    scores are the same."""
    if insufficient_data_reason(len(arm.template_ids), MIN_TEMPLATES_INTERVAL):
        return None
    found = crossed_mean(mean_over_seeds(arm.correct), _per_seed(arm.correct))
    return found.interval(confidence) if found.has_variance else None


def _per_seed(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """One sample of seeds: the mean of each over its cells; seeds without a cell are left out."""
    seen = ~np.isnan(values).all(axis=(1, 2))
    return [np.nanmean(values[seen], axis=(1, 2))]


def _same_grid(first: ArmOutcomes, second: ArmOutcomes, names: tuple[str, str]) -> None:
    if first.template_ids != second.template_ids or first.example_ids != second.example_ids:
        raise ValueError(f"{names[0]} and {names[1]} were not measured on the same templates and examples")


def verdict(found: Difference, *, templates: str = "held-out templates") -> str:
    """One plain sentence: who is above whom, by how many percentage points, and where that is not decisive, which
    difference would likely have been.

    "better" is said only with at least `MIN_SEEDS` seeds and a decisive difference above zero; with one seed the
    sentence is for these weights.
    """
    points = 100 * found.mean
    side = "above" if points >= 0 else "below"
    seeds = "for these weights (one seed)" if found.num_seeds == 1 else f"over {found.num_seeds} seeds"
    claim = f"{found.first} is {abs(points):.1f} percentage points {side} {found.second} on {templates}"
    if found.low is None or found.high is None or found.detectable is None:
        return f"{claim}, {seeds}; no interval: {found.insufficient_data_reason}"
    interval = f"({100 * found.confidence:g} % interval {100 * found.low:.1f} to {100 * found.high:.1f})"
    if not found.decisive:
        after = " after correction for several comparisons" if found.excludes_zero else ""
        return f"not decisive{after}: {claim} {interval}, {seeds}; {_would_show(found)}"
    if found.num_seeds >= MIN_SEEDS and found.low > 0:
        return (
            f"{found.first} is better than {found.second}: {abs(points):.1f} percentage points above it on {templates} "
            f"{interval}, {seeds}"
        )
    return f"{claim} {interval}, {seeds}"


def _would_show(found: Difference) -> str:
    """What a difference that is not decisive leaves open."""
    if not found.detectable or found.detectable < _SHOWN_AS_ZERO:
        return "both have the same score in every cell"
    points = f"{100 * found.detectable:.1f} percentage points"
    return f"a true difference of {points} would have shown {10 * POWER:g} times in 10, a smaller one less often"
