"""The leak-free split: near-duplicates share a cluster, and a cluster is never on both sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from paft_ray.errors import UserError
from paft_ray.prompts.draw import keyed_order
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.similarity import NORMALISATION, clusters, jaccard, largest_similarity, trigrams

_LARGEST_CLUSTER = 0.3


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """A prompt set with clusters and splits, and what shows that it does not leak."""

    prompts: PromptSet
    """All templates of both splits."""
    proof: dict[str, Any]
    """`largest_similarity` across the split (exact), its `pair` of content ids, `threshold`, `normalisation`."""
    rejected: dict[str, int]
    """Reason -> number of candidates: `near_held_out` for those too like a given held-out template."""


def split(
    candidates: Sequence[Entry], *, held_out: Sequence[Entry] = (), held_out_fraction: float, min_held_out: int, threshold: float, seed: int
) -> SplitResult:
    """Training and held-out templates of which no two across are at or above `threshold` in similarity.

    The first candidate (the template of arm `sft`) is always trained on. With `held_out` given, candidates near one of them are rejected;
    without, whole clusters of candidates are held out, `held_out_fraction` of all but at least `min_held_out`. Raises `UserError` where a cluster
    holds over 30 % of the candidates or where too few templates are there, saying what is missing.
    """
    if not candidates:
        raise UserError("prompts: no candidate template is left to train on; give prompts.seed_templates or prompts.generators")
    unique = list({entry.template.id: entry for entry in reversed(candidates)}.values())[::-1]
    groups = _clustered(unique, threshold)
    if held_out:
        near = near_ids(unique, held_out, threshold)
        train, held = [e for e in unique if e.template.id not in near], list(held_out)
        _check_given(unique[0], near, {e.template.id for e in held}, min_held_out)
    else:
        near = set()
        train, held = _divide(groups, unique[0], max(min_held_out, round(held_out_fraction * len(unique))), min_held_out, seed)
    entries = [replace(e, split="train") for e in train] + [replace(e, split="held_out") for e in held]
    numbers = clusters([e.template for e in entries], threshold)
    prompts = PromptSet.of(replace(e, cluster=c) for e, c in zip(entries, numbers, strict=True))
    return SplitResult(prompts=prompts, proof=proof(prompts, threshold), rejected={"near_held_out": len(near)} if near else {})


def near_ids(entries: Sequence[Entry], others: Sequence[Entry], threshold: float) -> set[str]:
    """Content ids of the entries that are at or above the threshold with any of the others."""
    grams = [trigrams(e.template) for e in others]
    return {e.template.id for e in entries if any(jaccard(trigrams(e.template), g) >= threshold for g in grams)}


def proof(prompts: PromptSet, threshold: float) -> dict[str, Any]:
    """What shows that the split does not leak: the largest exact similarity across it, the pair, the normalisation and the threshold."""
    value, a, b = largest_similarity(prompts.split("train").templates, prompts.split("held_out").templates)
    assert value < threshold, f"templates {a} and {b} leak across the split ({value:.2f})"
    return {"largest_similarity": round(value, 4), "pair": [a, b], "threshold": threshold, "normalisation": NORMALISATION}


def _clustered(entries: Sequence[Entry], threshold: float) -> list[list[Entry]]:
    """Entries grouped by cluster. Raises `UserError` where one cluster is over 30 % of them."""
    numbers = clusters([e.template for e in entries], threshold)
    largest, count = Counter(numbers).most_common(1)[0]
    if count > 1 and count > _LARGEST_CLUSTER * len(entries):
        text = next(e.template.text for e, number in zip(entries, numbers, strict=True) if number == largest)
        raise UserError(
            f"prompts: {count} of {len(entries)} templates are near-copies of one another ({text[:60]!r}...), at most 30 % may be; add more varied templates"
        )
    groups: dict[int, list[Entry]] = defaultdict(list)
    for entry, number in zip(entries, numbers, strict=True):
        groups[number].append(entry)
    return list(groups.values())


def _check_given(pinned: Entry, near: set[str], held_ids: set[str], min_held_out: int) -> None:
    if len(held_ids) < min_held_out:
        raise UserError(
            f"prompts.held_out_templates: {len(held_ids)} distinct templates, but prompts.min_held_out={min_held_out}; "
            f"add {min_held_out - len(held_ids)} more or leave the file out (held out by cluster then)"
        )
    if pinned.template.id in near:
        raise UserError(
            f"prompts: the first seed template ({pinned.template.text[:60]!r}..., trained on by arm sft) is a near-copy of a held-out one; change either"
        )


def _divide(groups: list[list[Entry]], pinned: Entry, wanted: int, min_held_out: int, seed: int) -> tuple[list[Entry], list[Entry]]:
    """(train, held out): whole clusters in random order as long as they fit into `wanted`, then the smallest up to `min_held_out`."""
    groups = sorted(groups, key=lambda group: min(e.template.id for e in group))
    order = [groups[i] for i in keyed_order([min(e.template.id for e in group) for group in groups], seed, "split")]
    free = [group for group in order if pinned not in group]
    taken: list[list[Entry]] = []
    for group in free:
        if sum(map(len, taken)) + len(group) <= wanted:
            taken.append(group)
    for group in sorted((g for g in free if g not in taken), key=len):
        if sum(map(len, taken)) < min_held_out:
            taken.append(group)
    held = [e for group in taken for e in group]
    train = [e for group in order if group not in taken for e in group]
    if len(held) < min_held_out:
        raise UserError(
            f"prompts: {len(held) + len(train)} distinct templates, of which {len(held)} can be held out, but prompts.min_held_out={min_held_out} and one more to "
            f"train on are needed: {min_held_out - len(held)} missing; bring more templates, more generators or a file of held-out templates"
        )
    return train, held
