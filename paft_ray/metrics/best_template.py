"""How sure it is that the best of several templates is the best one: a bootstrap over rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
_BLOCK = 250
_DECIMALS = 12  # means of the same values summed in another order are equal


def best_probabilities(scores: NDArray[np.float64], logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fraction of draws of rows in which each template has the highest mean score; of equal ones the higher mean
    log-probability counts, then the place. Shape [templates].

    `scores`, `logprobs`: shape [templates, rows], NaN where there is none. Rows are drawn with replacement by a
    generator of seed 0: first of `DRAWS` draws, how often each row counts.
    """
    num_templates, num_rows = scores.shape
    rng = np.random.default_rng(0)
    wins = np.zeros(num_templates)
    for start in range(0, DRAWS, _BLOCK):
        counts = rng.multinomial(num_rows, np.full(num_rows, 1 / num_rows), size=min(_BLOCK, DRAWS - start))
        means = _means(counts, scores, -np.inf)
        tied = means == means.max(axis=1, keepdims=True)
        second = np.where(tied, _means(counts, logprobs, 0.0), -np.inf)
        wins += np.bincount(np.argmax(second, axis=1), minlength=num_templates)
    return wins / DRAWS


def _means(counts: NDArray[np.int64], values: NDArray[np.float64], missing: float) -> NDArray[np.float64]:
    """Mean of every template's known values in each draw, `missing` where none is known. Shape [draws, templates]."""
    known = ~np.isnan(values)
    number = counts @ known.T
    total = counts @ np.where(known, values, 0.0).T
    return np.where(number > 0, np.round(total / np.maximum(number, 1), _DECIMALS), missing)
