"""How much an axis of a suite moves accuracy: the variance over its levels that no draw of examples explains, with its
interval, and what each level changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f

from paft_ray.metrics.crossed import crossed_mean

_ROUNDING = 1e-12
_MIN_LEVELS = 3
_ENDLESS = 10**9
"""Degrees of freedom of a variance that is known."""


@dataclass(frozen=True, kw_only=True)
class AxisSpread:
    """Standard deviation of a template's accuracy over the levels of an axis, on an endless test set."""

    std: float
    low: float | None
    """Ends of the interval; None for two levels, and where they change nothing at all, which tells nothing of other
    rows."""
    high: float | None
    num_templates: int
    num_levels: int


@dataclass(frozen=True, kw_only=True)
class LevelChange:
    """Accuracy under a level minus that without it, over the same templates and examples."""

    mean: float
    low: float | None
    """Ends of the interval; None where all cells are alike."""
    high: float | None


def axis_spread(cells: NDArray[np.float64], *, confidence: float) -> AxisSpread | None:
    """The spread over levels within a template. `cells` [templates, levels, examples], means over seeds; examples that
    lack a cell are left out. None for fewer than two levels, or two complete examples.

    Template, level and example are crossed random effects; a level does something to all templates alike (`capitals`)
    and something to each. The variance within a template is that of both parts: mean square of levels / templates, plus
    that of template x level x (1 - 1 / templates), minus that of level x example within a template, over the number of
    examples. The interval is the modified large-sample one for such a sum (Ting et al. 1990, J. Stat. Comput. Simul.
    35:135; Burdick & Graybill 1992); where the estimate is below zero the std is 0.
    """
    cells = cells[:, :, ~np.isnan(cells).any(axis=(0, 1))]
    num_templates, num_levels, num_examples = cells.shape
    if num_levels < 2 or num_examples < 2:
        return None
    means = cells.mean(axis=2)
    shared = means.mean(axis=0)
    own = means - means.mean(axis=1, keepdims=True) - shared + means.mean()
    rest = cells - means[:, :, None] - cells.mean(axis=1, keepdims=True) + cells.mean(axis=(1, 2), keepdims=True)
    of_level, of_rest = num_levels - 1, (num_levels - 1) * (num_examples - 1)
    squares = [_Square(weight=1.0, value=num_examples * float(shared.var(ddof=1)), freedom=of_level)]
    if num_templates > 1:
        value = num_examples * float((own**2).sum()) / ((num_templates - 1) * of_level)
        squares.append(_Square(weight=1 - 1 / num_templates, value=value, freedom=(num_templates - 1) * of_level))
    residual = _Square(weight=1.0, value=float((rest**2).sum()) / (num_templates * of_rest), freedom=of_rest)
    estimate = sum(square.part for square in squares) - residual.part
    std = float(np.sqrt(max(0.0, estimate) / num_examples))
    if num_levels < _MIN_LEVELS or max(square.part for square in (*squares, residual)) < _ROUNDING:
        return AxisSpread(std=std, low=None, high=None, num_templates=num_templates, num_levels=num_levels)
    most = num_levels / (num_levels - 1) / 4  # of values in 0 to 1
    low, high = (
        float(np.sqrt(min(max(0.0, end) / num_examples, most)))
        for end in _ends(estimate, squares, residual, 1 - confidence)
    )
    return AxisSpread(std=std, low=low, high=high, num_templates=num_templates, num_levels=num_levels)


@dataclass(frozen=True, kw_only=True)
class _Square:
    """A mean square of an analysis of variance, with its weight in a sum."""

    weight: float
    value: float
    freedom: int

    @property
    def part(self) -> float:
        return self.weight * self.value

    def above(self, level: float) -> float:
        """Burdick & Graybill's G for an upper quantile `level`."""
        return 1 - 1 / float(f.ppf(level, self.freedom, _ENDLESS))

    def below(self, level: float) -> float:
        """Their H for a lower quantile `level`."""
        return 1 / float(f.ppf(level, self.freedom, _ENDLESS)) - 1


def _ends(estimate: float, squares: Sequence[_Square], minus: _Square, alpha: float) -> tuple[float, float]:
    """Ends of the interval for the expectation of the sum of `squares` less `minus`, each at `alpha` / 2."""
    upper, lower = 1 - alpha / 2, alpha / 2
    down = (minus.below(lower) * minus.part) ** 2
    up = (minus.above(upper) * minus.part) ** 2
    for square in squares:
        g, h = square.above(upper), square.below(lower)
        high, low = (float(f.ppf(level, square.freedom, minus.freedom)) for level in (upper, lower))
        g_both = ((high - 1) ** 2 - (g * high) ** 2 - minus.below(lower) ** 2) / high
        h_both = ((1 - low) ** 2 - (h * low) ** 2 - minus.above(upper) ** 2) / low
        down += (g * square.part) ** 2 + g_both * square.part * minus.part
        up += (h * square.part) ** 2 + h_both * square.part * minus.part
    for one, other in combinations(squares, 2):
        count, both = one.freedom + other.freedom, one.freedom * other.freedom
        g = 1 - 1 / float(f.ppf(upper, count, _ENDLESS))
        shares = (
            one.above(upper) ** 2 * one.freedom / other.freedom,
            other.above(upper) ** 2 * other.freedom / one.freedom,
        )
        down += (g**2 * count**2 / both - sum(shares)) * one.part * other.part / (len(squares) - 1)
    return estimate - float(np.sqrt(max(0.0, down))), estimate + float(np.sqrt(max(0.0, up)))


def level_change(under: NDArray[np.float64], without: NDArray[np.float64], *, confidence: float) -> LevelChange:
    """What a level changes. Both [templates, examples], means over seeds. Raises `ValueError` without a common cell."""
    found = crossed_mean(under - without)
    if not found.has_variance:
        return LevelChange(mean=found.value, low=None, high=None)
    low, high = found.interval(confidence)
    return LevelChange(mean=found.value, low=low, high=high)
