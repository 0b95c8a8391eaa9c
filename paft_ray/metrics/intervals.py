"""Paired differences of arms with bootstrap intervals, and what may be said of them in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paft_ray.metrics.figures import refusal
from paft_ray.metrics.outcomes import ArmOutcomes

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
    num_seeds: int
    """Seeds behind the comparison."""
    refused: str | None
    """Why there is no interval."""


def difference(
    paft: ArmOutcomes, sft: ArmOutcomes, *, rng: np.random.Generator, num_bootstrap: int, confidence: float, names: tuple[str, str] = ("paft", "sft")
) -> Difference:
    """Mean accuracy of the first arm minus the second, with a percentile interval by resampling templates, examples and (if several) seeds.

    Both arms get the same resampled templates, examples and seeds. Seeds are paired by number; an arm with one seed (`base`) stands against every
    seed of the other. Cells that failed in either arm are left out. Raises `ValueError` where ids differ or no seed is common.
    """
    if paft.template_ids != sft.template_ids or paft.example_ids != sft.example_ids:
        raise ValueError(f"{names[0]} and {names[1]} were not measured on the same templates and examples")
    first, second = _paired(paft, sft, names)
    values = first - second
    refused = refusal(len(paft.template_ids))
    low, high = (None, None) if refused else bootstrap_interval(values, rng=rng, num_bootstrap=num_bootstrap, confidence=confidence)
    return Difference(
        first=names[0],
        second=names[1],
        mean=float(np.nanmean(values)),
        low=low,
        high=high,
        confidence=confidence,
        num_seeds=len(values),
        refused=refused,
    )


def _paired(paft: ArmOutcomes, sft: ArmOutcomes, names: tuple[str, str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    common = sorted(set(paft.seeds) & set(sft.seeds))
    if common:
        return paft.correct[[paft.seeds.index(s) for s in common]], sft.correct[[sft.seeds.index(s) for s in common]]
    if 1 in (len(paft.seeds), len(sft.seeds)):
        return paft.correct, sft.correct
    raise ValueError(f"{names[0]} (seeds {paft.seeds}) and {names[1]} (seeds {sft.seeds}) have no seed in common")


def bootstrap_interval(values: NDArray[np.float64], *, rng: np.random.Generator, num_bootstrap: int, confidence: float) -> tuple[float, float]:
    """Percentile interval of the mean of `values` [seeds, templates, examples] (NaN: left out), every axis resampled with replacement.

    Resampling the axes independently treats both templates and examples as samples (the pigeonhole bootstrap, Owen 2007), which is mildly
    conservative; a single seed is not resampled, so the interval then says nothing about other seeds.
    """
    filled = np.nan_to_num(values)
    present = (~np.isnan(values)).astype(np.float64)
    means: list[NDArray[np.float64]] = []
    for start in range(0, num_bootstrap, _BLOCK):
        draws = min(_BLOCK, num_bootstrap - start)
        weights = [rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64) for n in values.shape]
        means.append(_weighted_sum(filled, weights) / _weighted_sum(present, weights))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def _weighted_sum(values: NDArray[np.float64], weights: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Sum of values [s, t, e] under each draw's weights [draws, s], [draws, t], [draws, e]. Shape [draws]."""
    seeds, templates, examples = weights
    over_examples = values @ examples.T
    over_templates = (over_examples * templates.T[None]).sum(axis=1)
    return np.asarray((over_templates * seeds.T).sum(axis=0))


def verdict(found: Difference, *, templates: str = "held-out templates") -> str:
    """One plain sentence: who is above whom, by how many points; "better" only with several seeds and an interval above zero."""
    points = 100 * found.mean
    side = "above" if points >= 0 else "below"
    seeds = "on this seed" if found.num_seeds == 1 else f"over {found.num_seeds} seeds"
    claim = f"{found.first} is {abs(points):.1f} points {side} {found.second} on {templates}"
    if found.low is None or found.high is None:
        return f"{claim}, {seeds}; no interval: {found.refused}"
    interval = f"({100 * found.confidence:g} % interval {100 * found.low:.1f} to {100 * found.high:.1f})"
    if found.low <= 0 <= found.high:
        return f"not decisive: {claim} {interval}, {seeds}"
    if found.num_seeds > 1 and found.low > 0:
        return f"{found.first} is better than {found.second}: {abs(points):.1f} points above it on {templates} {interval}, {seeds}"
    return f"{claim} {interval}, {seeds}"
