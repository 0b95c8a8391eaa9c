"""Near-duplicates of templates: exact Jaccard similarity of word trigrams after a stated normalisation."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from rensa import RMinHash, RMinHashLSH

from paft_ray.prompts.template import PromptTemplate

Grams = frozenset[tuple[str, ...]]

NORMALISATION = (
    "lower-case, literal line breaks unescaped, everything but letters, braces and spaces removed; sets of word "
    "trigrams (texts under three words: the complete text)"
)
EXACT_LIMIT = 2000
"""Sets above this size are compared only where MinHash proposes it; the comparison itself is exact."""
_NUM_PERM = 256
_MISS = 1e-6


def trigrams(template: PromptTemplate) -> Grams:
    """Word trigrams of the normalized text (system part included)."""
    text = f"{template.system or ''} {template.text}".lower().replace("\\n", "\n")
    words = re.sub(r"[^\w{}\s]|[\d_]", "", text).split()
    return frozenset(zip(words, words[1:], words[2:], strict=False)) if len(words) > 2 else frozenset([tuple(words)])


def jaccard(a: Grams, b: Grams) -> float:
    """|a & b| / |a | b|."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def clusters(templates: Sequence[PromptTemplate], threshold: float) -> list[int]:
    """Cluster number of each template: those with similarity at or above the threshold, directly or through others,
    share one. Shape [len(templates)]."""
    grams = [trigrams(t) for t in templates]
    parent = list(range(len(templates)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    pairs = _minhash_pairs(grams, threshold) if len(grams) > EXACT_LIMIT else _sharing(grams, grams)
    for i, j in pairs:
        if root(i) != root(j) and jaccard(grams[i], grams[j]) >= threshold:
            parent[max(root(i), root(j))] = min(root(i), root(j))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(i), len(numbers)) for i in range(len(templates))]


def largest_similarity(a: Sequence[PromptTemplate], b: Sequence[PromptTemplate]) -> tuple[float, str, str]:
    """Largest similarity between a template of `a` and one of `b`, exact, with their content ids; (0.0, "", "") where
    no trigram is shared."""
    left, right = [trigrams(t) for t in a], [trigrams(t) for t in b]
    best = (0.0, "", "")
    for i, j in _sharing(left, right):
        value = jaccard(left[i], right[j])
        if value > best[0]:
            best = (value, a[i].id, b[j].id)
    return best


def _sharing(left: Sequence[Grams], right: Sequence[Grams]) -> Iterator[tuple[int, int]]:
    """Pairs that share a trigram (the similarity of all others is 0), by an inverted index."""
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for j, grams in enumerate(right):
        for gram in grams:
            places[gram].append(j)
    for i, grams in enumerate(left):
        for j in Counter(j for gram in grams for j in places.get(gram, ())):
            yield i, j


def _minhash_pairs(grams: Sequence[Grams], threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs that share a MinHash band; one of similarity `threshold` is missed with a probability under a millionth."""
    rows = next(r for r in (8, 4, 2, 1) if r == 1 or (1 - threshold**r) ** (_NUM_PERM // r) <= _MISS)
    index = RMinHashLSH(threshold=threshold, num_perm=_NUM_PERM, num_bands=_NUM_PERM // rows)
    for j, words in enumerate(grams):
        sketch = RMinHash(num_perm=_NUM_PERM, seed=7)
        sketch.update([" ".join(gram) for gram in words])
        for i in index.query(sketch):
            yield i, j
        index.insert(j, sketch)
