"""Near-duplicates of templates: exact Jaccard similarity of words and of word trigrams after a stated normalization."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from rensa import RMinHash, RMinHashLSH

from paft_ray.prompts.template import PromptTemplate

Trigram = tuple[str, str, str]

NORMALISATION = (
    "lower-case, literal line breaks unescaped, a field in braces is one word, everything else but letters becomes a "
    "space; the larger of two Jaccard similarities, of the sets of words and of word trigrams (where one text has "
    "under eight words: of words alone)"
)
EXACT_LIMIT = 1000
"""In sets above this size only pairs that MinHash proposes are compared; the comparison itself is exact."""
_SHORT = 8
_NUM_PERM = 256
_MISS = 1e-6
_WORD = re.compile(r"\{\w+\}|[^\W\d_]+")


@dataclass(frozen=True, kw_only=True)
class Shingles:
    """What of a template is compared."""

    words: frozenset[str]
    """Of the normalized text, system part included."""
    trigrams: frozenset[Trigram]
    """Of neighboring words; empty for a text of under eight words."""


def shingles(template: PromptTemplate) -> Shingles:
    """Words and word trigrams of the normalized text."""
    text = unicodedata.normalize("NFC", f"{template.system or ''} {template.text}".lower().replace("\\n", "\n"))
    words = _WORD.findall("".join(char for char in text if not unicodedata.category(char).startswith("M")))
    trigrams = zip(words, words[1:], words[2:], strict=False) if len(words) >= _SHORT else ()
    return Shingles(words=frozenset(words), trigrams=frozenset(trigrams))


def similarity(a: Shingles, b: Shingles) -> float:
    """The larger of the Jaccard similarities of words and of trigrams, in [0, 1]; of words alone where one text is
    short."""
    of_words = _jaccard(a.words, b.words)
    return max(of_words, _jaccard(a.trigrams, b.trigrams)) if a.trigrams and b.trigrams else of_words


class Known:
    """Templates that others are compared with; the shingles of each are made once."""

    def __init__(self, templates: Iterable[PromptTemplate], threshold: float) -> None:
        self.threshold, self.known = threshold, [shingles(template) for template in templates]

    def is_near(self, template: PromptTemplate) -> bool:
        """Whether a template is at or above the threshold with any known one."""
        return self._is_near(shingles(template))

    def add(self, template: PromptTemplate) -> bool:
        """Whether a template is near none; it is known from then on."""
        found = shingles(template)
        if self._is_near(found):
            return False
        self.known.append(found)
        return True

    def _is_near(self, found: Shingles) -> bool:
        return any(similarity(found, other) >= self.threshold for other in self.known)


def clusters(templates: Sequence[PromptTemplate], threshold: float) -> list[int]:
    """Cluster number of each template: those with similarity at or above the threshold, directly or through others,
    share one. Shape [len(templates)]."""
    found = [shingles(t) for t in templates]
    parent = list(range(len(templates)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    pairs = _proposed(found, threshold) if len(found) > EXACT_LIMIT else combinations(range(len(found)), 2)
    for i, j in pairs:
        if root(i) != root(j) and similarity(found[i], found[j]) >= threshold:
            parent[max(root(i), root(j))] = min(root(i), root(j))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(i), len(numbers)) for i in range(len(templates))]


def largest_similarity(a: Sequence[PromptTemplate], b: Sequence[PromptTemplate]) -> tuple[float, str, str]:
    """Largest similarity between a template of `a` and one of `b`, exact, with their content ids; (0.0, "", "") where
    no word is shared."""
    right = [(shingles(other), other.id) for other in b]
    best = (0.0, "", "")
    for one in a:
        left = shingles(one)
        for found, other in right:
            if (value := similarity(left, found)) > best[0]:
                best = (value, one.id, other)
    return best


def _jaccard(a: frozenset[str] | frozenset[Trigram], b: frozenset[str] | frozenset[Trigram]) -> float:
    """|a & b| / |a | b|; 1 for two empty sets."""
    shared = len(a & b)
    total = len(a) + len(b) - shared
    return shared / total if total else 1.0


def _proposed(found: Sequence[Shingles], threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs that share a MinHash band of words or of trigrams; one of similarity `threshold` is missed with a
    probability under a millionth."""
    yield from _minhash_pairs({i: sorted(each.words) or [""] for i, each in enumerate(found)}, threshold)
    yield from _minhash_pairs(
        {i: sorted(map(" ".join, each.trigrams)) for i, each in enumerate(found) if each.trigrams}, threshold
    )


def _minhash_pairs(sets: dict[int, list[str]], threshold: float) -> Iterator[tuple[int, int]]:
    rows = next(r for r in (8, 4, 2, 1) if r == 1 or (1 - threshold**r) ** (_NUM_PERM // r) <= _MISS)
    index = RMinHashLSH(threshold=threshold, num_perm=_NUM_PERM, num_bands=_NUM_PERM // rows)
    for j, items in sets.items():
        sketch = RMinHash(num_perm=_NUM_PERM, seed=7)
        sketch.update(items)
        for i in index.query(sketch):
            yield i, j
        index.insert(j, sketch)
