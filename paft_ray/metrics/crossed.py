"""Mean over a grid whose templates, examples and seeds are samples: standard error, t interval, p-value.

A crossed random-effects analysis of variance; accuracies are fractions, axes [seeds, templates, examples].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import t

POWER = 0.8
"""Chance of a decisive result at the minimum detectable effect."""
_ROUNDING = 1e-12
"""Scores lie in [0, 1]: a smaller difference is none."""
_OF_TOTAL = 1e-3
"""Weight of the total among the moments."""


@dataclass(frozen=True, kw_only=True)
class MeanEstimate:
    """A mean with what is not known about it."""

    value: float
    standard_error: float
    """Infinite where nothing varies: cells that are all the same tell nothing of others."""
    freedom: float
    """Degrees of freedom of the standard error (Satterthwaite 1946), at least 1."""

    def interval(self, confidence: float) -> tuple[float, float]:
        """The two ends of the t interval."""
        reach = float(t.ppf((1 + confidence) / 2, self.freedom)) * self.standard_error
        return self.value - reach, self.value + reach

    @property
    def has_variance(self) -> bool:
        """Some cells or seeds differ; without that the interval is endless."""
        return math.isfinite(self.standard_error)

    @property
    def p_value(self) -> float:
        """Of a mean of zero, two-sided, from the same t as the interval."""
        return float(2 * t.sf(abs(self.value) / self.standard_error, self.freedom))

    def detectable(self, confidence: float, comparisons: int = 1) -> float:
        """Minimum detectable effect: the true mean whose p-value falls below (1 - confidence) / `comparisons`, which is
        Holm's first step, with a chance of `POWER` (Bloom 1995; t quantiles in place of normal ones)."""
        level = (1 - confidence) / comparisons
        return float((t.ppf(1 - level / 2, self.freedom) + t.ppf(POWER, self.freedom)) * self.standard_error)


def crossed_mean(cells: NDArray[np.float64], seed_means: Sequence[NDArray[np.float64]] = ()) -> MeanEstimate:
    """Mean of `cells` [templates, examples] (means over seeds; NaN: left out), for other templates and examples.

    Every effect of template, example and cell is random. Their variances are those at which the squared deviations by
    template, by example and in total are as expected of this very pattern of cells (the method of moments, see
    `_components`): for a complete grid the usual analysis of variance, and valid for a grid of which only a part was
    asked. The standard error is never below that of independent cells. `seed_means`: for every sample of seeds the mean
    of each (NaN: left out); several seeds are a third random axis, a single one is not, and then the estimate is for
    these weights. Raises `ValueError` without a cell.
    """
    present = ~np.isnan(cells)
    if not present.any():
        raise ValueError("a mean needs at least one cell")
    count = int(present.sum())
    components = _components(np.nan_to_num(cells), present.astype(np.float64))
    of_cells = float(components[2]) / count
    parts = [
        (float((present.sum(axis=1 - axis) ** 2).sum()) / count**2 * float(components[axis]) + of_cells, size - 1)
        for axis, size in enumerate(cells.shape)
    ]
    independent = float(np.nanvar(cells)) / max(count - 1, 1)
    grid = max(parts[0][0] + parts[1][0] - of_cells, independent)
    known = [means[~np.isnan(means)] for means in seed_means]
    of_seeds = [(float(means.var(ddof=1)) / len(means), len(means) - 1) for means in known if len(means) > 1]
    variance = grid + sum(part for part, _ in of_seeds)
    spread = sum(part**2 / max(freedom, 1) for part, freedom in (*parts, *of_seeds))
    return MeanEstimate(
        value=float(np.nanmean(cells)),
        standard_error=float(np.sqrt(variance)) if variance > _ROUNDING**2 else math.inf,
        freedom=max(1.0, float(variance**2 / spread)) if spread else 1.0,
    )


def _components(values: NDArray[np.float64], present: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variances of template, example and cell effects, by moments. Shape [3].

    Only where one of them would be negative are there more equations than unknowns: then the sums by template and by
    example decide, for it is they that the variance of the mean is made of, and the total hardly counts.
    """
    count = present.sum()
    left = (values - values.sum() / count) * present
    moments = np.array([(left.sum(axis=1) ** 2).sum(), (left.sum(axis=0) ** 2).sum(), (left**2).sum()])
    if moments[2] <= count * _ROUNDING**2:
        return np.zeros(3)
    expected = _expected(present.sum(axis=1), present.sum(axis=0), present, count)
    scale = np.maximum(expected.sum(axis=1) * moments[2] / count, np.finfo(float).tiny)
    weight = np.array([1.0, 1.0, _OF_TOTAL]) / scale
    return np.asarray(nnls(expected * weight[:, None], moments * weight)[0])


def _expected(
    of_template: NDArray[np.float64], of_example: NDArray[np.float64], present: NDArray[np.float64], count: float
) -> NDArray[np.float64]:
    """Expectation of the three moments per unit of each of the three variances. Shape [3, 3]."""
    squares = [(of_template**2).sum(), (of_example**2).sum()]
    shares = [square / count**2 for square in squares]
    crossing = float(of_template @ present @ of_example)
    own = [
        (n**2 * (1 - 2 * n / count + share)).sum() for n, share in zip((of_template, of_example), shares, strict=True)
    ]
    other = [count - 2 * crossing / count + shares[1 - i] * squares[i] for i in (0, 1)]
    return np.array(
        [
            [own[0], other[0], count - squares[0] / count],
            [other[1], own[1], count - squares[1] / count],
            [count * (1 - shares[0]), count * (1 - shares[1]), count - 1],
        ]
    )
