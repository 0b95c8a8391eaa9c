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
    question: str
    """What was asked of the text. Scores of different questions are never compared: a judge that prefers one answer
    whatever the text would seem to know something where the questions differ in how often they are answered by it."""
    text: str
    """Identity of the text that it is made of. All that is made of one text is drawn together."""


@dataclass(frozen=True, kw_only=True)
class Discrimination:
    """What a score is worth."""

    auc: Interval
    """Mean over the kinds of negatives, so that a kind counts alike however many it has."""
    by_kind: dict[str, float]
    """Kind of negatives -> AUC of the positives against these alone, over pairs with the same question."""
    num_positives: int
    num_negatives: int


def auc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Probability that a positive scores above a negative, half of it where they are equal (Mann and Whitney 1947); of
    two samples that are not empty."""
    scores = np.nan_to_num([*positives, *negatives], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    n, m = len(positives), len(negatives)
    return float((rankdata(scores)[:n].sum() - n * (n + 1) / 2) / (n * m))


def discrimination(items: Sequence[Scored], rng: np.random.Generator) -> Discrimination | None:
    """AUC with its percentile bootstrap interval at `CONFIDENCE`: texts with a positive and texts without are drawn
    with replacement. None where no positive can be compared with a negative of the same question."""
    asked = {item.question for item in items if item.kind is None}
    items = [item for item in items if item.question in asked]  # others have nothing to be compared with
    kinds = list(dict.fromkeys(item.kind for item in items if item.kind is not None))
    found = dict(zip(kinds, _aucs(items, kinds, np.ones((1, len(items))))[:, 0].tolist(), strict=True))
    by_kind = {kind: value for kind, value in found.items() if value == value}
    if not by_kind:
        return None
    draws = np.ma.masked_invalid(_aucs(items, list(by_kind), _weights(items, rng))).mean(axis=0).filled(np.nan)
    low, high = np.nanquantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    value = float(np.mean(list(by_kind.values())))
    num_positives = sum(item.kind is None for item in items)
    return Discrimination(
        auc=Interval(value=value, low=min(float(low), value), high=max(float(high), value)),
        by_kind=by_kind,
        num_positives=num_positives,
        num_negatives=len(items) - num_positives,
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


def _aucs(items: Sequence[Scored], kinds: Sequence[str], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """[kinds, draws] AUC of the positives against each kind; NaN where a draw has nothing to compare."""
    scores = np.nan_to_num([item.score for item in items], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    questions = np.array([item.question for item in items])
    is_kind = {kind: np.array([item.kind == kind for item in items]) for kind in (None, *kinds)}
    first = is_kind[None]
    found = np.empty((len(kinds), len(weights)))
    for row, kind in zip(found, kinds, strict=True):
        second = is_kind[kind]
        same = questions[first][:, None] == questions[second]
        higher = (scores[first][:, None] > scores[second]) + 0.5 * (scores[first][:, None] == scores[second])
        pairs = (weights[:, first] @ same * weights[:, second]).sum(axis=1)
        won = (weights[:, first] @ (higher * same) * weights[:, second]).sum(axis=1)
        row[:] = np.where(pairs > 0, won / np.maximum(pairs, 1), np.nan)
    return found
