"""Accuracy over templates from a part of the (template, example) cells: what the seen ones say about the full grid.

After PromptEval (Maia Polo et al. 2024, arXiv 2405.17202): an item-response model fills the cells that were not asked.
Accuracies are fractions; axes are [templates, examples].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import solve_triangular
from scipy.optimize import brentq
from scipy.special import expit, softmax
from sklearn import config_context
from sklearn.linear_model import LogisticRegression

from paft_ray.metrics.bootstrap import Interval, percentile_interval
from paft_ray.metrics.intervals import IntervalTarget

ESTIMATED_QUANTILES = (0.1, 0.5, 0.9)
_TEMPLATE, _GROUP, _EXAMPLE = 0.5, 1.0, 1.0
_TEMPLATE_GROUP = (0.1, 1.0, 3.0)
"""Prior standard deviations of the effects, in logits; the last one is weighed by evidence (EXPERIMENTS.md)."""
_NUM_DRAWS = 400
_CALIBRATION_CELLS, _CALIBRATION_STEP = 1000, 4
"""The common logit is found on at most so many unseen cells and on every so many-th draw."""
_BLOCK = 8_000_000  # (cell, draw) pairs at once: bounds the memory


@dataclass(frozen=True, kw_only=True)
class GridEstimate:
    """What a part of the cells says about the full grid; accuracies in [0, 1]."""

    by_template: tuple[Interval, ...]
    mean: Interval
    std: Interval | None
    """Standard deviation over templates (ddof 1), value: mean over posterior draws; None for one template."""
    quantiles: Mapping[float, Interval]
    """Quantile (of `ESTIMATED_QUANTILES`) over templates of their accuracy."""
    budget: float
    """Fraction of the cells that were seen, in (0, 1]."""
    confidence: float
    grid: IntervalTarget = "these cells"
    """What the intervals are for: nothing is claimed about other templates and examples."""


def estimate(
    correct: NDArray[np.float64],
    *,
    rng: np.random.Generator,
    groups: NDArray[np.int64] | None = None,
    confidence: float = 0.95,
) -> GridEstimate:
    """Figures of the full grid of these very templates and examples (a finite target: nothing is claimed about others),
    from its seen cells.

    `correct` [templates, examples]: 1, 0 or a mean over seeds in between; NaN where not seen. `groups` [examples]: code
    of the right answer (`answer_strata`). Seen cells count as they are; unseen ones are drawn from a logistic model
    with effects of template, example, group and template x group (a template that favors one answer), so that
    quantiles and std do not shrink to the model's smooth predictions. The draws are moved by one common logit so that
    the mean is the seen cells' own, weighted by group (a model-assisted estimate: the design, not the model, keeps it
    unbiased). A mean over seeds is weighed like a single answer, which widens its intervals. Raises `ValueError` where
    no cell was seen.
    """
    if np.isnan(correct).all():
        raise ValueError("no cell of the grid was seen")
    draws = _template_draws(correct, np.zeros(correct.shape[1], dtype=np.int64) if groups is None else groups, rng)

    def interval(values: NDArray[np.float64]) -> Interval:
        low, high = percentile_interval(values, confidence)
        return Interval(value=float(values.mean()), low=low, high=high)

    return GridEstimate(
        by_template=tuple(map(interval, draws)),
        mean=interval(draws.mean(axis=0)),
        std=interval(draws.std(axis=0, ddof=1)) if len(draws) > 1 else None,
        quantiles={q: interval(np.quantile(draws, q, axis=0)) for q in ESTIMATED_QUANTILES},
        budget=float((~np.isnan(correct)).mean()),
        confidence=confidence,
    )


def _template_draws(
    correct: NDArray[np.float64], groups: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Accuracy of every template on the full grid, drawn given the seen cells. Shape [templates, draws]."""
    seen = ~np.isnan(correct)
    right = np.tile(np.nansum(correct, axis=1)[:, None], _NUM_DRAWS)
    if seen.all():
        return right / correct.shape[1]
    features, sizes = _features(correct.shape, groups)
    coefficients = _coefficients(features[seen.ravel()], correct[seen], sizes, rng)
    unseen, template = features[~seen.ravel()], np.nonzero(~seen)[0]
    target = (_group_mean(correct, groups) * correct.size - np.nansum(correct)) / len(template)
    coefficients[0] += _shift(unseen, coefficients, np.clip(target, 0.5 / len(template), 1 - 0.5 / len(template)), rng)
    sums = sparse.csr_matrix(
        (np.ones(len(template), dtype=np.float32), (template, np.arange(len(template)))),
        shape=(len(correct), len(template)),
    )
    block = max(1, _BLOCK // len(template))
    for start in range(0, _NUM_DRAWS, block):
        chance = expit((unseen @ coefficients[:, start : start + block]).astype(np.float32))
        right[:, start : start + block] += sums @ (rng.random(chance.shape, dtype=np.float32) < chance)
    return right / correct.shape[1]


def _features(shape: tuple[int, int], groups: NDArray[np.int64]) -> tuple[sparse.csr_matrix, tuple[int, ...]]:
    """Indicators of every cell, and the number of columns of each kind: intercept, template, group, example, template x
    group. Rows: cells."""
    template, example = (axis.ravel() for axis in np.indices(shape))
    group, num_groups = groups[example], int(groups.max()) + 1
    sizes = (1, shape[0], num_groups, shape[1], shape[0] * num_groups)
    columns = np.stack(
        [np.zeros_like(template), template, group, example, template * num_groups + group], axis=1
    ) + np.cumsum((0, *sizes[:-1]))
    pointers = np.arange(0, columns.size + 1, len(sizes))
    return sparse.csr_matrix(
        (np.ones(columns.size), columns.ravel(), pointers), shape=(len(columns), sum(sizes))
    ), sizes


def _coefficients(
    features: sparse.csr_matrix, share: NDArray[np.float64], sizes: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draws from the Laplace posteriors of the logistic models, each as often as its evidence says. Shape [features,
    draws].

    They are Student's, with the cells left over by the coefficients as degrees of freedom: with a dozen cells a
    Gaussian covers too little.
    """
    # Two half answers that bear on the intercept alone, one right and one wrong (Jeffreys): the mode is finite where
    # all cells are right or all wrong.
    half = sparse.csr_matrix(([1.0, 1.0], ([0, 1], [0, 0])), shape=(2, features.shape[1]))
    features = sparse.vstack([features, half]).tocsr()
    right, wrong = np.append(share, [0.5, 0.0]), np.append(1 - share, [0.0, 0.5])
    scales = [np.repeat([1.0, _TEMPLATE, _GROUP, _EXAMPLE, spread], sizes) for spread in _TEMPLATE_GROUP]
    fits = [_fit(features @ sparse.diags_array(scale), right, wrong) for scale in scales]
    counts = rng.multinomial(_NUM_DRAWS, softmax([evidence for _, _, evidence in fits]))
    drawn = []
    for (mode, factor, _), scale, count in zip(fits, scales, counts, strict=True):
        inverse = solve_triangular(factor, np.eye(len(mode)), lower=True)
        # Cells less the effective number of coefficients, trace(I - prior precision x posterior covariance).
        freedom = max(1.0, len(share) - len(mode) + float((inverse[:, 1:] ** 2).sum()))
        noise = inverse.T @ rng.standard_normal((len(mode), count)) * np.sqrt(freedom / rng.chisquare(freedom, count))
        drawn.append(scale[:, None] * (mode[:, None] + noise))
    return np.concatenate(drawn, axis=1)


def _fit(
    features: sparse.csr_matrix, right: NDArray[np.float64], wrong: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """(mode, Cholesky factor of the precision there, log evidence up to a constant); coefficients but the intercept
    have standard normal priors.

    `right`, `wrong`: weight of each row as a right and as a wrong answer.
    """
    rows = np.concatenate([np.nonzero(right)[0], np.nonzero(wrong)[0]])
    answers = np.repeat([1, 0], [np.count_nonzero(right), np.count_nonzero(wrong)])
    weights = np.concatenate([right[right > 0], wrong[wrong > 0]])
    with config_context(assume_finite=True, skip_parameter_validation=True):
        fitted = LogisticRegression(solver="newton-cholesky").fit(features[rows, 1:], answers, sample_weight=weights)
    mode = np.append(fitted.intercept_, fitted.coef_)
    logits = features @ mode
    chance = expit(logits)
    precision = (features.T @ sparse.diags_array((right + wrong) * chance * (1 - chance)) @ features).toarray()
    precision[np.diag_indices(len(mode))] += np.append(0.0, np.ones(len(mode) - 1))
    factor = np.linalg.cholesky(precision)
    likelihood = -right @ np.logaddexp(0, -logits) - wrong @ np.logaddexp(0, logits)
    return mode, factor, float(likelihood - mode[1:] @ mode[1:] / 2 - np.log(np.diag(factor)).sum())


def _group_mean(correct: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """Mean of the seen cells, each group weighted by its examples; half an answer right and half wrong are added, as in
    the model."""
    seen = ~np.isnan(correct)
    weight, count = np.bincount(groups).astype(np.float64), np.bincount(groups, weights=seen.sum(axis=0))
    total = np.bincount(groups, weights=np.nansum(correct, axis=0))
    weight *= count > 0
    mean = float(weight @ (total / np.maximum(count, 1)) / weight.sum())
    return (mean * seen.sum() + 0.5) / (seen.sum() + 1)


def _shift(
    features: sparse.csr_matrix, coefficients: NDArray[np.float64], target: float, rng: np.random.Generator
) -> float:
    """The logit that, added to every draw, makes the mean chance of being right over the cells `features` the
    `target`."""
    if features.shape[0] > _CALIBRATION_CELLS:
        features = features[rng.choice(features.shape[0], _CALIBRATION_CELLS, replace=False)]
    logits = (features @ coefficients[:, ::_CALIBRATION_STEP]).astype(np.float32)
    return float(brentq(lambda shift: expit(logits + shift).mean() - target, -20, 20, xtol=5e-3))
