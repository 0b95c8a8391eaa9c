"""The leak-free split: near-duplicates share a cluster, and a cluster is never on both sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from paft_ray.errors import UserError
from paft_ray.prompts.draw import keyed_order
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.similarity import NORMALISATION, clusters, jaccard, largest_similarity, trigrams

_LARGEST_CLUSTER = 0.3


def near(entries: Sequence[Entry], others: Sequence[Entry], threshold: float) -> set[str]:
    """Content ids of the entries that are at or above the threshold with any of the others."""
    grams = [trigrams(e.template) for e in others]
    return {e.template.id for e in entries if any(jaccard(trigrams(e.template), g) >= threshold for g in grams)}


def with_held_out(train: Sequence[Entry], held_out: Sequence[Entry], *, threshold: float) -> PromptSet:
    """A prompt set from candidates and given held-out templates. Candidates near a held-out one must have been taken out (`near`)."""
    entries = [replace(e, split="train") for e in train] + [replace(e, split="held_out") for e in held_out]
    numbers = clusters([e.template for e in entries], threshold)
    return PromptSet.of(replace(e, cluster=c) for e, c in zip(entries, numbers, strict=True))


def split_by_cluster(entries: Sequence[Entry], *, fraction: float, min_held_out: int, threshold: float, seed: int, keep_in_train: str | None) -> PromptSet:
    """Whole clusters held out at random until `fraction` of the templates, and at least `min_held_out`, are; the cluster of `keep_in_train` never is.

    Raises `UserError` where one cluster holds over 30 % of the templates or too few templates are left.
    """
    numbers = clusters([e.template for e in entries], threshold)
    sizes = Counter(numbers)
    largest, count = sizes.most_common(1)[0]
    if len(entries) > 3 and count > _LARGEST_CLUSTER * len(entries):
        example = next(e.template.text for e, c in zip(entries, numbers, strict=True) if c == largest)
        raise UserError(f"prompts: {count} of {len(entries)} templates are near-copies of one another ({example[:60]!r}...); add more varied templates")
    members: dict[int, list[Entry]] = defaultdict(list)
    for entry, number in zip(entries, numbers, strict=True):
        members[number].append(replace(entry, cluster=number))
    wanted = max(min_held_out, round(fraction * len(entries)))
    names = {number: min(e.template.id for e in group) for number, group in members.items()}
    order = sorted(members, key=names.__getitem__)
    held: list[Entry] = []
    train: list[Entry] = []
    for i in keyed_order([names[number] for number in order], seed, "split"):
        group = members[order[i]]
        pinned = any(e.template.id == keep_in_train for e in group)
        target = train if pinned or len(held) >= wanted else held
        target.extend(group)
    if len(held) < min_held_out or not train:
        raise UserError(
            f"prompts: {len(entries)} distinct templates leave {len(held)} held out and {len(train)} to train on, but {min_held_out} held out and at least one "
            f"to train on are needed; bring more templates, more generators or a file of held-out templates"
        )
    return PromptSet.of([*train, *(replace(e, split="held_out") for e in held)])


def proof(prompts: PromptSet, threshold: float) -> dict[str, Any]:
    """What shows that the split does not leak: the largest exact similarity across it, the pair, the normalisation and the threshold."""
    value, a, b = largest_similarity(prompts.split("train").templates, prompts.split("held_out").templates)
    assert value < threshold, f"templates {a} and {b} leak across the split ({value:.2f})"
    return {"largest_similarity": round(value, 4), "pair": [a, b], "threshold": threshold, "normalisation": NORMALISATION}
