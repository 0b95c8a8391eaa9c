"""Bootstrap intervals of figures of spread over templates: std, lowest decile, worst, and their comparison in pairs.

The scheme, so that others can recompute every draw: from one NumPy generator, in blocks of at most `BLOCK` draws, come
first the seeds of each arm in turn, `integers(S, size=(draws, S - 1))` (only where it has several, S; arms of the same
seeds get the same), then the templates, `integers(T, size=(draws, T))`, then how often each example counts,
`multinomial(E, [1 / E] * E, size=draws)`. Templates and examples are the same for both arms of a pair. A figure of a
draw is the mean over its seeds of the seed's own figure, on the accuracies of its templates, each weighted by its
examples.

Two corrections. S - 1 of S seeds are drawn, since the mean of S draws would vary too little by (S - 1) / S (Rao & Wu
1988). And drawn examples add their noise to accuracies that hold the noise of the test set already, so the std of a
draw is multiplied by `_scale`; it would lie above the figure itself else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from paft_ray.metrics.outcomes import ArmOutcomes, have_common_seeds, mean_over_seeds, on_common_seeds
from paft_ray.metrics.robustness import DECILE, insufficient_data_reason, noise_by_seed

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
    first has no spread in any draw, or the second none in over a hundredth of them."""
    decile: Interval
    """Lowest decile of the first minus that of the second."""


def spread_intervals(
    arm: ArmOutcomes, *, rng: np.random.Generator, num_bootstrap: int, confidence: float
) -> SpreadIntervals | None:
    """Bootstrap intervals of std, lowest decile and worst; None below `MIN_TEMPLATES` templates, where over a tenth of
    the cells were not measured, and where no template differs from another: that tells nothing of others."""
    if _too_little(arm):
        return None
    [drawn] = _drawn([arm], rng, num_bootstrap)
    if drawn[0].max() <= _ROUNDING:
        return None
    parts = zip(("std", "decile", "worst"), _spread(arm.by_seed), drawn, strict=True)
    return SpreadIntervals(
        **{name: _interval(float(value), draws, len(arm.template_ids), confidence) for name, value, draws in parts}
    )


def spread_difference(
    first: ArmOutcomes, second: ArmOutcomes, *, rng: np.random.Generator, num_bootstrap: int, confidence: float
) -> SpreadDifference | None:
    """Ratio of stds and difference of lowest deciles with bootstrap intervals, both arms over the same draws.

    Arms are paired by seed, see `on_common_seeds`; without a common one seeds are drawn apart. None below
    `MIN_TEMPLATES` templates, where over a tenth of the cells of an arm were not measured, and where every cell has the
    same difference. Raises `ValueError` where ids differ.
    """
    if first.template_ids != second.template_ids or first.example_ids != second.example_ids:
        raise ValueError("spread is compared on the same templates and examples only")
    first, second = on_common_seeds(first, second)
    if have_common_seeds(first, second):
        gap = first.correct - second.correct
    else:
        gap = mean_over_seeds(first.correct) - mean_over_seeds(second.correct)
    if _too_little(first) or _too_little(second) or np.nanmax(gap) - np.nanmin(gap) <= _ROUNDING:
        return None
    (std, decile, _), (other_std, other_decile, _) = _spread(first.by_seed), _spread(second.by_seed)
    one, other = _drawn([first, second], rng, num_bootstrap)
    num_templates = len(first.template_ids)
    kept = other[0] > _ROUNDING
    has_ratio = min(other_std, one[0].max()) > _ROUNDING and kept.mean() >= 1 - _MOST_FLAT
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
    return bool(few) or bool(np.isnan(arm.correct).mean() > _MOST_MISSING) or noise_by_seed(arm) is None


def _spread(accuracy: NDArray[np.float64], scale: NDArray[np.float64] | float = 1.0) -> NDArray[np.float64]:
    """Std (times `scale` [..., seeds]), lowest decile and worst over templates of accuracies [..., seeds, templates],
    means over seeds. Shape [3, ...]."""
    figures = scale * accuracy.std(axis=-1, ddof=1), np.quantile(accuracy, DECILE, axis=-1), accuracy.min(axis=-1)
    return np.stack([figure.mean(axis=-1) for figure in figures])


def _drawn(arms: Sequence[ArmOutcomes], rng: np.random.Generator, num_draws: int) -> list[NDArray[np.float64]]:
    """Per arm the figures of `_spread` of every draw; draws that meet a template without a cell are left out of all.
    Shapes [3, draws]."""
    num_templates, num_examples = arms[0].correct.shape[1:]
    scales = [_scale(arm) for arm in arms]
    found: list[list[NDArray[np.float64]]] = [[] for _ in arms]
    for start in range(0, num_draws, BLOCK):
        draws = min(BLOCK, num_draws - start)
        seeds = _drawn_seeds(arms, rng, draws)
        templates = rng.integers(num_templates, size=(draws, num_templates))
        counts = rng.multinomial(num_examples, np.full(num_examples, 1 / num_examples), size=draws)
        for arm, scale, figures in zip(arms, scales, found, strict=True):
            accuracy = _accuracies(arm.correct, seeds[arm.seeds], templates, counts.astype(np.float64))
            figures.append(_spread(accuracy, scale[seeds[arm.seeds]]))
    joined = [np.concatenate(figures, axis=1) for figures in found]
    complete = ~np.isnan(joined).any(axis=(0, 1))
    return [figures[:, complete] for figures in joined]


def _drawn_seeds(
    arms: Sequence[ArmOutcomes], rng: np.random.Generator, draws: int
) -> dict[tuple[int, ...], NDArray[np.int64]]:
    """Seeds of an arm -> places of the drawn ones. Shape [draws, seeds - 1], of a single seed [draws, 1]."""
    found: dict[tuple[int, ...], NDArray[np.int64]] = {}
    for size, seeds in ((len(arm.seeds), arm.seeds) for arm in arms):
        if seeds not in found:
            found[seeds] = (
                rng.integers(size, size=(draws, size - 1)) if size > 1 else np.zeros((draws, 1), dtype=np.int64)
            )
    return found


def _scale(arm: ArmOutcomes) -> NDArray[np.float64]:
    """Factor per seed at which the variance over the templates of a draw is, on average, that of the accuracies. Shape
    [seeds]. Of std alone: an accuracy of 0 or 1 has no noise, and lowest ones would be moved off it.

    With the noise v of one accuracy (`noise_by_seed`) and the variance s of the T accuracies, which is at least v since
    they hold it, that of a draw is (T - 1) / T (s + v).
    """
    noise = noise_by_seed(arm)
    assert noise is not None  # `_too_little`
    held = np.maximum(arm.by_seed.var(axis=1, ddof=1), noise)
    drawn = (1 - 1 / len(arm.template_ids)) * (held + noise)
    return np.sqrt(np.divide(held, drawn, out=np.ones_like(held), where=drawn > 0))


def _accuracies(
    correct: NDArray[np.float64],
    seeds: NDArray[np.int64],
    templates: NDArray[np.int64],
    counts: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Accuracies of the drawn seeds and templates on the drawn examples, NaN without a cell. Shape [draws, seeds,
    templates]."""
    present = (~np.isnan(correct)).astype(np.float64)
    right, asked = (np.moveaxis(values @ counts.T, 2, 0) for values in (np.nan_to_num(correct), present))
    accuracy = np.divide(right, asked, out=np.full_like(right, np.nan), where=asked > 0)
    accuracy = np.take_along_axis(accuracy, seeds[:, :, None], axis=1)
    return np.take_along_axis(accuracy, templates[:, None, :], axis=2)
