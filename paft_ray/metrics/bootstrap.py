"""Bootstrap intervals of figures of spread over templates: std, lowest decile, worst, and their comparison in pairs.

The scheme, so that others can recompute every draw: from one NumPy generator, in blocks of at most `BLOCK` draws, come
first the seeds, `integers(S, size=(draws, S))` (where there are several, S, and both arms of a pair have the same),
then the templates, `integers(T, size=(draws, T))`, then how often each example counts, `multinomial(E, [1 / E] * E,
size=draws)`. Both arms of a pair get the same draws. A figure of a draw is the mean over its seeds of the seed's own
figure, on the accuracies of its templates, each weighted by its examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from paft_ray.metrics.outcomes import ArmOutcomes
from paft_ray.metrics.robustness import DECILE, insufficient_data_reason

BLOCK = 256
_MOST_MISSING = 0.1
"""Above this fraction of cells that were not measured, accuracies of templates are mostly noise."""
_ROUNDING = 1e-9
_MOST_FLAT = 0.01
"""Above this fraction of draws without any spread in the second arm, the ratio of stds has no upper end."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with what is not known about it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class SpreadIntervals:
    """Figures of spread of one arm, each the mean over its seeds."""

    std: Interval
    """Standard deviation over templates (ddof 1)."""
    decile: Interval
    """Lowest decile over templates."""
    worst: Interval
    """The lowest accuracy; no draw can be below the lowest seen, so its interval reaches too little downward."""


@dataclass(frozen=True, kw_only=True)
class SpreadDifference:
    """Spread of one arm against that of another, over the same draws of templates and examples."""

    std_ratio: Interval | None
    """Std of the first over that of the second, below 1 where the first depends less on the template; None where the
    second has no spread, or none in over a hundredth of the draws."""
    decile: Interval
    """Lowest decile of the first minus that of the second."""


def spread_intervals(
    arm: ArmOutcomes, *, rng: np.random.Generator, num_bootstrap: int, confidence: float
) -> SpreadIntervals | None:
    """Bootstrap intervals of std, lowest decile and worst; None below `MIN_TEMPLATES` templates and where over a tenth
    of the cells were not measured."""
    if _too_little(arm):
        return None
    parts = zip(("std", "decile", "worst"), _spread(arm.by_seed), _drawn([arm], rng, num_bootstrap)[0], strict=True)
    return SpreadIntervals(
        **{name: _interval(float(value), draws, len(arm.template_ids), confidence) for name, value, draws in parts}
    )


def spread_difference(
    first: ArmOutcomes, second: ArmOutcomes, *, rng: np.random.Generator, num_bootstrap: int, confidence: float
) -> SpreadDifference | None:
    """Ratio of stds and difference of lowest deciles with bootstrap intervals, both arms over the same draws.

    Seeds are resampled in pairs where both arms have the same ones, else not. None below `MIN_TEMPLATES` templates and
    where over a tenth of the cells of an arm were not measured. Raises `ValueError` where ids differ.
    """
    if first.template_ids != second.template_ids or first.example_ids != second.example_ids:
        raise ValueError("spread is compared on the same templates and examples only")
    if _too_little(first) or _too_little(second):
        return None
    (std, decile, _), (other_std, other_decile, _) = _spread(first.by_seed), _spread(second.by_seed)
    one, other = _drawn([first, second], rng, num_bootstrap)
    num_templates = len(first.template_ids)
    kept = other[0] > _ROUNDING
    has_ratio = other_std > _ROUNDING and kept.mean() >= 1 - _MOST_FLAT
    ratio = one[0][kept] / other[0][kept]
    return SpreadDifference(
        std_ratio=_interval(float(std / other_std), ratio, num_templates, confidence) if has_ratio else None,
        decile=_interval(float(decile - other_decile), one[1] - other[1], num_templates, confidence),
    )


def percentile_interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """The two ends that hold the middle `confidence` of the values."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _interval(value: float, draws: NDArray[np.float64], num_templates: int, confidence: float) -> Interval:
    """Percentile interval, expanded for few templates (Hesterberg 2015): the level is that at which a percentile
    interval of a mean is as wide as its t interval."""
    reach = np.sqrt(num_templates / (num_templates - 1)) * t.ppf((1 + confidence) / 2, num_templates - 1)
    low, high = percentile_interval(draws, float(2 * norm.cdf(reach) - 1))
    return Interval(value=value, low=low, high=high)


def _too_little(arm: ArmOutcomes) -> bool:
    few = insufficient_data_reason(len(arm.template_ids))
    return bool(few) or bool(np.isnan(arm.correct).mean() > _MOST_MISSING)


def _spread(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Std, lowest decile and worst over templates of accuracies [..., seeds, templates], means over seeds. Shape [3,
    ...]."""
    figures = accuracy.std(axis=-1, ddof=1), np.quantile(accuracy, DECILE, axis=-1), accuracy.min(axis=-1)
    return np.stack([figure.mean(axis=-1) for figure in figures])


def _drawn(arms: Sequence[ArmOutcomes], rng: np.random.Generator, num_draws: int) -> list[NDArray[np.float64]]:
    """Per arm the figures of `_spread` of every draw; draws that meet a template without a cell are left out of all.
    Shapes [3, draws]."""
    num_templates, num_examples = arms[0].correct.shape[1:]
    num_seeds = arms[0].correct.shape[0] if len({arm.seeds for arm in arms}) == 1 else 1
    found: list[list[NDArray[np.float64]]] = [[] for _ in arms]
    for start in range(0, num_draws, BLOCK):
        draws = min(BLOCK, num_draws - start)
        seeds = rng.integers(num_seeds, size=(draws, num_seeds)) if num_seeds > 1 else None
        templates = rng.integers(num_templates, size=(draws, num_templates))
        counts = rng.multinomial(num_examples, np.full(num_examples, 1 / num_examples), size=draws)
        for arm, figures in zip(arms, found, strict=True):
            figures.append(_spread(_accuracies(arm.correct, seeds, templates, counts.astype(np.float64))))
    joined = [np.concatenate(figures, axis=1) for figures in found]
    complete = ~np.isnan(joined).any(axis=(0, 1))
    return [figures[:, complete] for figures in joined]


def _accuracies(
    correct: NDArray[np.float64],
    seeds: NDArray[np.int64] | None,
    templates: NDArray[np.int64],
    counts: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Accuracies of the drawn seeds and templates on the drawn examples, NaN without a cell. Shape [draws, seeds,
    templates]."""
    present = (~np.isnan(correct)).astype(np.float64)
    right, asked = (np.moveaxis(values @ counts.T, 2, 0) for values in (np.nan_to_num(correct), present))
    accuracy = np.divide(right, asked, out=np.full_like(right, np.nan), where=asked > 0)
    if seeds is not None:
        accuracy = np.take_along_axis(accuracy, seeds[:, :, None], axis=1)
    return np.take_along_axis(accuracy, templates[:, None, :], axis=2)
