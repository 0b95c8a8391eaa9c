"""How well a score tells positives from negatives: the area under the ROC curve, with an interval over texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from paft_ray.metrics.bootstrap import Interval

CONFIDENCE = 0.9
_NUM_BOOTSTRAP = 1000


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A score of something that is known to be a positive or a negative."""

    score: float
    """NaN counts as the lowest there is."""
    kind: str | None
    """What kind of negative it is; None: a positive."""
    text: str
    """Identity of the text that it is made of. All that is made of one text is drawn together."""


@dataclass(frozen=True, kw_only=True)
class Discrimination:
    """What a score is worth."""

    auc: Interval
    """Mean over the kinds of negatives, so that a kind counts alike however many it has."""
    by_kind: dict[str, float]
    """Kind of negatives -> AUC of the positives against these alone."""
    num_positives: int
    num_negatives: int


def auc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Probability that a positive scores above a negative, half of it where they are equal (Mann and Whitney 1947); of
    two samples that are not empty."""
    scores = np.nan_to_num([*positives, *negatives], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    n, m = len(positives), len(negatives)
    return float((rankdata(scores)[:n].sum() - n * (n + 1) / 2) / (n * m))


def discrimination(items: Sequence[Scored], rng: np.random.Generator) -> Discrimination:
    """AUC with its percentile bootstrap interval at `CONFIDENCE`: texts with a positive and texts without are drawn
    with replacement. There must be positives and negatives."""
    positives = [item.score for item in items if item.kind is None]
    kinds = dict.fromkeys(item.kind for item in items if item.kind is not None)
    by_kind = {kind: auc(positives, [item.score for item in items if item.kind == kind]) for kind in kinds}
    draws = _draws(items, list(kinds), _weights(items, rng))
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    value = float(np.mean(list(by_kind.values())))
    return Discrimination(
        auc=Interval(value=value, low=min(float(low), value), high=max(float(high), value)),
        by_kind=by_kind,
        num_positives=len(positives),
        num_negatives=len(items) - len(positives),
    )


def _weights(items: Sequence[Scored], rng: np.random.Generator) -> NDArray[np.float64]:
    """[draws, items] How often the text of each item is drawn."""
    with_positive = {item.text for item in items if item.kind is None}
    texts = {text: number for number, text in enumerate(dict.fromkeys(item.text for item in items))}
    drawn = np.zeros((_NUM_BOOTSTRAP, len(texts)))
    for stratum in (with_positive, texts.keys() - with_positive):
        columns = sorted(texts[text] for text in stratum)
        if columns:
            shares = np.full(len(columns), 1 / len(columns))
            drawn[:, columns] = rng.multinomial(len(columns), shares, size=_NUM_BOOTSTRAP)
    return drawn[:, [texts[item.text] for item in items]]


def _draws(items: Sequence[Scored], kinds: Sequence[str], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """[draws] The AUC of each draw; a kind of which a draw has nothing is left out of its mean."""
    scores = np.nan_to_num([item.score for item in items], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    is_kind = {kind: np.array([item.kind == kind for item in items]) for kind in (None, *kinds)}
    positives, of_positives = scores[is_kind[None]], weights[:, is_kind[None]]
    found = []
    for kind in kinds:
        negatives, of_negatives = scores[is_kind[kind]], weights[:, is_kind[kind]]
        wins = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
        total = of_positives.sum(axis=1) * of_negatives.sum(axis=1)
        won = ((of_positives @ wins) * of_negatives).sum(axis=1)
        found.append(np.where(total > 0, won / np.maximum(total, 1), np.nan))
    return np.nanmean(found, axis=0)
