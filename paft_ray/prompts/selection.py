"""Templates chosen to differ, and how well a set of them covers what it was chosen from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from paft_ray.prompts.similarity import Shingles, clusters, shingles
from paft_ray.prompts.template import PromptTemplate


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How different the templates of a set are. Distance: 1 - `similarity.similarity`, in [0, 1]."""

    num_templates: int
    num_clusters: int
    """Of near-copies, at the threshold of the prompt set."""
    mean_nearest: float | None
    """Mean distance of a template to its nearest neighbor in the set; None for fewer than two templates."""
    min_nearest: float | None
    """The smallest of these distances."""
    radius: float | None
    """Covering radius: the largest distance of a template that could have been chosen to the nearest chosen one; None
    where the set or what it was chosen from is empty."""


def diverse(templates: Sequence[PromptTemplate], num: int, *, start: Sequence[PromptTemplate] = ()) -> list[int]:
    """Indices of `num` templates (all where there are fewer) in the order of choice: each is the farthest from those
    chosen before and from `start` (greedy k-center; Gonzalez, 1985). The smallest content id of equally far ones."""
    order = sorted(range(len(templates)), key=lambda i: templates[i].id)
    found = [shingles(templates[i]) for i in order]
    index = _Index(found)
    nearest = index.nearest(shingles(t) for t in start)
    chosen: list[int] = []
    for _ in range(min(num, len(order))):
        best = int(np.argmax(nearest))  # the first of equal ones
        chosen.append(order[best])
        nearest = np.minimum(nearest, index.distances(found[best]))
        nearest[best] = -1  # below every distance: chosen once
    return chosen


def coverage(
    templates: Sequence[PromptTemplate], *, threshold: float, candidates: Sequence[PromptTemplate] = ()
) -> Coverage:
    """The figures of a set; `candidates`: what it was chosen from."""
    found = [shingles(t) for t in templates]
    index = _Index(found)
    nearest = []
    for i, each in enumerate(found if len(found) > 1 else ()):
        distances = index.distances(each)
        distances[i] = 1
        nearest.append(float(distances.min()))
    pool = _Index([shingles(t) for t in candidates])
    return Coverage(
        num_templates=len(templates),
        num_clusters=len(set(clusters(templates, threshold))),
        mean_nearest=sum(nearest) / len(nearest) if nearest else None,
        min_nearest=min(nearest, default=None),
        radius=float(pool.nearest(found).max()) if found and candidates else None,
    )


class _Index:
    """Distances of any template to many at once, over lists of those that hold a word or a trigram."""

    def __init__(self, found: Sequence[Shingles]) -> None:
        self._words = _Sets([each.words for each in found])
        self._trigrams = _Sets([each.trigrams for each in found])

    def distances(self, one: Shingles) -> np.ndarray:
        """1 - `similarity.similarity` of one and each, shape [number of templates]."""
        of_words = self._words.jaccard(one.words)
        both = (self._trigrams.sizes > 0) & bool(one.trigrams)
        return 1 - np.where(both, np.maximum(of_words, self._trigrams.jaccard(one.trigrams)), of_words)

    def nearest(self, others: Iterable[Shingles]) -> np.ndarray:
        """Distance of each to the nearest of the others, shape [number of templates]; 1 where there are none."""
        nearest = np.ones(len(self._words.sizes))
        for other in others:
            nearest = np.minimum(nearest, self.distances(other))
        return nearest


class _Sets:
    """Jaccard similarities of a set to many at once."""

    def __init__(self, sets: Sequence[frozenset[Hashable]]) -> None:
        self.sizes = np.array([len(each) for each in sets], dtype=np.int64)
        holders: dict[Hashable, list[int]] = defaultdict(list)
        for i, each in enumerate(sets):
            for item in each:
                holders[item].append(i)
        self._holders = {item: np.array(indices) for item, indices in holders.items()}

    def jaccard(self, one: frozenset[Hashable]) -> np.ndarray:
        """|a & b| / |a | b| with each set, shape [number of sets]; 1 for two empty sets."""
        held = [self._holders[item] for item in one if item in self._holders]
        shared = np.bincount(np.concatenate(held), minlength=len(self.sizes)) if held else np.zeros_like(self.sizes)
        total = self.sizes + len(one) - shared
        return np.where(total > 0, shared / np.maximum(total, 1), 1.0)
