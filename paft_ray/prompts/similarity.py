"""Near-duplicates of templates: exact Jaccard similarity of word trigrams after a stated normalisation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from rensa import RMinHash, RMinHashLSH

from paft_ray.prompts.template import PromptTemplate

NORMALISATION = "lower-case; literal \\n to a space; everything but letters, braces and spaces removed; sets of word trigrams (shorter texts: the whole)"
_EXACT_LIMIT = 3000


def trigrams(template: PromptTemplate) -> frozenset[tuple[str, ...]]:
    """Word trigrams of the normalised text (system part included)."""
    text = f"{template.system or ''} {template.text}".lower().replace("\\n", " ")
    words = re.sub(r"[^\w{}\s]|[\d_]", "", text).split()
    return frozenset(zip(words, words[1:], words[2:], strict=False)) if len(words) > 2 else frozenset([tuple(words)])


def jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    """|a & b| / |a | b|."""
    union = len(a | b)
    return len(a & b) / union if union else 1.0


def clusters(templates: Sequence[PromptTemplate], threshold: float) -> list[int]:
    """Cluster number of each template: those with similarity at or above the threshold, directly or through others, share one. Shape [len(templates)]."""
    grams = [trigrams(t) for t in templates]
    parent = list(range(len(templates)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in _proposed(grams, threshold):
        if jaccard(grams[i], grams[j]) >= threshold:
            parent[max(root(i), root(j))] = min(root(i), root(j))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(i), len(numbers)) for i in range(len(templates))]


def largest_similarity(a: Sequence[PromptTemplate], b: Sequence[PromptTemplate]) -> tuple[float, str, str]:
    """Largest similarity between a template of `a` and one of `b`, exact, with their content ids."""
    right = [(trigrams(t), t.id) for t in b]
    best = (0.0, "", "")
    for template in a:
        grams = trigrams(template)
        for other, identity in right:
            value = jaccard(grams, other)
            if value > best[0]:
                best = (value, template.id, identity)
    return best


def _proposed(grams: Sequence[frozenset[tuple[str, ...]]], threshold: float) -> Iterable[tuple[int, int]]:
    """Pairs worth an exact comparison: those that share a trigram; in large sets those that MinHash proposes."""
    if len(grams) > _EXACT_LIMIT:
        yield from _minhash_pairs(grams, threshold)
        return
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    seen: set[tuple[int, int]] = set()
    for j, words in enumerate(grams):
        for gram in words:
            for i in places[gram]:
                if (i, j) not in seen:
                    seen.add((i, j))
                    yield i, j
            places[gram].append(j)


def _minhash_pairs(grams: Sequence[frozenset[tuple[str, ...]]], threshold: float) -> Iterable[tuple[int, int]]:
    index = RMinHashLSH(threshold=max(0.1, threshold - 0.2), num_perm=128, num_bands=32)
    for j, words in enumerate(grams):
        sketch = RMinHash(num_perm=128, seed=7)
        sketch.update([" ".join(gram) for gram in words])
        for i in index.query(sketch):
            yield i, j
        index.insert(j, sketch)
