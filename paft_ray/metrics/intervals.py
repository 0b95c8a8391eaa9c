"""Paired differences of arms with bootstrap intervals, and what may be said of them in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from paft_ray.metrics.outcomes import ArmOutcomes
from paft_ray.metrics.robustness import MIN_TEMPLATES_INTERVAL, insufficient_data_reason

POWER = 0.8
"""Chance of a decisive result at the minimum detectable effect."""
_SHOWN_AS_ZERO = 0.0005
_BLOCK = 256  # bootstrap draws computed at once: bounds the memory of the resampling weights


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean accuracy of one arm minus that of another, with a bootstrap interval."""

    first: str
    second: str
    mean: float
    low: float | None
    high: float | None
    confidence: float
    p_value: float | None
    """Of no difference, two-sided; see `difference`."""
    p_adjusted: float | None
    """The same, corrected for all differences reported together; `p_value` itself until `corrected` has seen them."""
    detectable: float | None
    """Minimum detectable effect: the true difference that comes out decisive with a chance of `POWER` (before
    correction)."""
    num_seeds: int
    """Seeds behind the comparison."""
    insufficient_data_reason: str | None
    """Why there is no interval."""

    @property
    def excludes_zero(self) -> bool:
        """The interval exists and lies on one side of zero."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    @property
    def decisive(self) -> bool:
        """The interval excludes zero, and the corrected p-value is below 1 - confidence."""
        return self.excludes_zero and self.p_adjusted is not None and self.p_adjusted < 1 - self.confidence


def difference(
    paft: ArmOutcomes,
    sft: ArmOutcomes,
    *,
    rng: np.random.Generator,
    num_bootstrap: int,
    confidence: float,
    names: tuple[str, str] = ("paft", "sft"),
) -> Difference:
    """Mean accuracy of the first arm minus the second, with a percentile interval by resampling templates, examples and
    (if several) seeds.

    Both arms get the same resampled templates, examples and seeds. Seeds are paired by number; an arm with one seed
    (`base`) stands against every seed of the other. Cells that failed in either arm are left out. The p-value is the
    level at which the percentile interval touches zero: twice the smaller fraction of draws at or beyond zero, one draw
    added (Davison & Hinkley 1997), so it is never below 2 / (draws + 1). `detectable` is (z of the confidence + z of
    `POWER`) times the bootstrap standard error (Bloom 1995). Below `MIN_TEMPLATES_INTERVAL` templates there is a mean
    only. Raises `ValueError` where ids differ or no seed is common.
    """
    if paft.template_ids != sft.template_ids or paft.example_ids != sft.example_ids:
        raise ValueError(f"{names[0]} and {names[1]} were not measured on the same templates and examples")
    first, second = _paired(paft, sft, names)
    values = first - second
    missing = insufficient_data_reason(len(paft.template_ids), MIN_TEMPLATES_INTERVAL)
    low = high = p_value = detectable = None
    if not missing:
        means = bootstrap_means(values, rng=rng, num_bootstrap=num_bootstrap)
        low, high = percentile_interval(means, confidence)
        beyond = int(min((means <= 0).sum(), (means >= 0).sum()))
        p_value = min(1.0, 2 * (beyond + 1) / (len(means) + 1))
        detectable = float((norm.ppf((1 + confidence) / 2) + norm.ppf(POWER)) * means.std(ddof=1))
    return Difference(
        first=names[0],
        second=names[1],
        mean=float(np.nanmean(values)),
        low=low,
        high=high,
        confidence=confidence,
        p_value=p_value,
        p_adjusted=p_value,
        detectable=detectable,
        num_seeds=len(values),
        insufficient_data_reason=missing,
    )


def corrected(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """The differences with `p_adjusted` corrected for being reported together (Holm); those without an interval do not
    count."""
    tested = {name: gap.p_value for name, gap in differences.items() if gap.p_value is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {name: replace(gap, p_adjusted=adjusted.get(name)) for name, gap in differences.items()}


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down method (1979): the chance of any false claim stays below the level,
    whatever depends on what."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


def mean_interval(
    arm: ArmOutcomes, *, rng: np.random.Generator, num_bootstrap: int, confidence: float
) -> tuple[float, float] | None:
    """Interval of the arm's mean accuracy, resampled as in `difference`; None below `MIN_TEMPLATES_INTERVAL`
    templates."""
    if insufficient_data_reason(len(arm.template_ids), MIN_TEMPLATES_INTERVAL):
        return None
    return bootstrap_interval(arm.correct, rng=rng, num_bootstrap=num_bootstrap, confidence=confidence)


def _paired(
    paft: ArmOutcomes, sft: ArmOutcomes, names: tuple[str, str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    common = sorted(set(paft.seeds) & set(sft.seeds))
    if common:
        return paft.correct[[paft.seeds.index(s) for s in common]], sft.correct[[sft.seeds.index(s) for s in common]]
    if 1 in (len(paft.seeds), len(sft.seeds)):
        return paft.correct, sft.correct
    raise ValueError(f"{names[0]} (seeds {paft.seeds}) and {names[1]} (seeds {sft.seeds}) have no seed in common")


def bootstrap_interval(
    values: NDArray[np.float64], *, rng: np.random.Generator, num_bootstrap: int, confidence: float
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` [seeds, templates, examples] (NaN: left out); see
    `bootstrap_means`."""
    return percentile_interval(bootstrap_means(values, rng=rng, num_bootstrap=num_bootstrap), confidence)


def bootstrap_means(
    values: NDArray[np.float64], *, rng: np.random.Generator, num_bootstrap: int
) -> NDArray[np.float64]:
    """Means of `values` [seeds, templates, examples] (NaN: left out) with every axis resampled with replacement. Shape
    [num_bootstrap].

    A draw that meets no value at all (few cells of a grid) is left out.

    Resampling the axes independently treats both templates and examples as samples (the pigeonhole bootstrap, Owen
    2007), which is mildly conservative; a single seed is not resampled, so the interval then says nothing about other
    seeds.
    """
    filled = np.nan_to_num(values)
    present = (~np.isnan(values)).astype(np.float64)
    means: list[NDArray[np.float64]] = []
    for start in range(0, num_bootstrap, _BLOCK):
        draws = min(_BLOCK, num_bootstrap - start)
        weights = [rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64) for n in values.shape]
        total = _weighted_sum(present, weights)
        means.append((_weighted_sum(filled, weights) / np.where(total, total, 1.0))[total > 0])
    return np.concatenate(means)


def percentile_interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """The two ends that hold the middle `confidence` of the values."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _weighted_sum(values: NDArray[np.float64], weights: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Sum of values [s, t, e] under each draw's weights [draws, s], [draws, t], [draws, e]. Shape [draws]."""
    seeds, templates, examples = weights
    over_examples = values @ examples.T
    over_templates = (over_examples * templates.T[None]).sum(axis=1)
    return np.asarray((over_templates * seeds.T).sum(axis=0))


def verdict(found: Difference, *, templates: str = "held-out templates") -> str:
    """One plain sentence: who is above whom, by how many percentage points, and where that is not decisive, which
    difference would likely have been.

    "better" is said only with several seeds and a decisive difference above zero.
    """
    points = 100 * found.mean
    side = "above" if points >= 0 else "below"
    seeds = "on this seed" if found.num_seeds == 1 else f"over {found.num_seeds} seeds"
    claim = f"{found.first} is {abs(points):.1f} percentage points {side} {found.second} on {templates}"
    if found.low is None or found.high is None or found.detectable is None:
        return f"{claim}, {seeds}; no interval: {found.insufficient_data_reason}"
    interval = f"({100 * found.confidence:g} % interval {100 * found.low:.1f} to {100 * found.high:.1f})"
    if not found.decisive:
        after = " after correction for several comparisons" if found.excludes_zero else ""
        return f"not decisive{after}: {claim} {interval}, {seeds}; {_would_show(found)}"
    if found.num_seeds > 1 and found.low > 0:
        return (
            f"{found.first} is better than {found.second}: {abs(points):.1f} percentage points above it on {templates} "
            f"{interval}, {seeds}"
        )
    return f"{claim} {interval}, {seeds}"


def _would_show(found: Difference) -> str:
    """What a difference that is not decisive leaves open."""
    if not found.detectable or found.detectable < _SHOWN_AS_ZERO:
        return "both are right in the same places"
    corrected = " before correction" if found.p_adjusted != found.p_value else ""
    points = f"{100 * found.detectable:.1f} percentage points"
    return (
        f"a true difference of {points} would have come out decisive {10 * POWER:g} times in 10{corrected}, a "
        "smaller one less often"
    )
