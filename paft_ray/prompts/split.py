"""The leak-free split: near-duplicates share a cluster, and neither a cluster nor a frame of the grammar is on both
sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, get_args

from paft_ray.errors import UserError
from paft_ray.prompts.prompt_set import Entry, PromptSet, Split
from paft_ray.prompts.sampling import keyed_order
from paft_ray.prompts.similarity import NORMALISATION, Known, clusters, largest_similarity
from paft_ray.sanitize import masked

_LARGEST_CLUSTER = 0.3


def with_held_out(train: Sequence[Entry], held_out: Sequence[Entry], *, threshold: float) -> PromptSet:
    """A prompt set from candidates and given held-out templates; candidates near a held-out one must have been taken
    out (`near_held_out`).

    Raises `UserError` without a candidate, and where one cluster holds over 30 % of them.
    """
    if not train:
        raise UserError(
            "prompts: no template is left to train on; bring seed templates, more generators, or {type: grammar}"
        )
    _clustered(train, threshold)
    return _numbered(
        [replace(e, split="train") for e in train] + [replace(e, split="held_out") for e in held_out], threshold
    )


def split_by_cluster(
    entries: Sequence[Entry],
    *,
    fraction: float,
    min_held_out: int,
    threshold: float,
    seed: int,
    keep_in_train: str | None,
) -> PromptSet:
    """Complete clusters held out at random, with all clusters that share a frame of the grammar: `fraction` of the
    templates, but at least `min_held_out`; what holds `keep_in_train` never is.

    Raises `UserError` where one cluster holds over 30 % of the templates or too few templates are there.
    """
    groups = _with_frames(_clustered(entries, threshold))
    free = [group for group in _shuffled(groups, seed) if all(e.template.id != keep_in_train for e in group)]
    wanted = max(min_held_out, round(fraction * sum(map(len, groups))))
    held: list[Entry] = []
    passed_over = []
    for group in free:
        if len(held) + len(group) <= wanted:
            held += group
        else:
            passed_over.append(group)
    for group in sorted(
        passed_over, key=len
    ):  # groups too large for `wanted`, only where without them too few are held out
        if len(held) < min_held_out:
            held += group
    ids = {e.template.id for e in held}
    train = [e for group in groups for e in group if e.template.id not in ids]
    if len(held) < min_held_out or not train:
        missing = max(min_held_out - len(held), 1)
        raise UserError(
            f"prompts: {len(held) + len(train)} distinct templates, but {min_held_out} held out and at least one "
            f"to train on are needed: {missing} missing; bring more templates, more generators or a file of held-out "
            "templates"
        )
    return _numbered([*train, *(replace(e, split="held_out") for e in held)], threshold)


def near(entries: Sequence[Entry], others: Sequence[Entry], threshold: float) -> set[str]:
    """Content ids of the entries that are at or above the threshold with any of the others."""
    known = Known((e.template for e in others), threshold)
    return {e.template.id for e in entries if known.is_near(e.template)}


def near_held_out(entries: Sequence[Entry], held_out: Sequence[Entry], threshold: float) -> set[str]:
    """Content ids of the entries that are near a held-out template, or composed from the same frame as one."""
    frames = _frames(held_out)
    return near(entries, held_out, threshold) | {e.template.id for e in entries if _frames([e]) & frames}


def leakage_report(prompts: PromptSet, threshold: float) -> dict[str, Any]:
    """What shows that the split does not leak: the largest exact similarity across it, the pair, the normalisation and
    the threshold."""
    value, a, b = largest_similarity(prompts.split("train").templates, prompts.split("held_out").templates)
    assert value < threshold, f"templates {a} and {b} leak across the split ({value:.2f})"
    frames = [_frames(prompts.split(side).entries) for side in get_args(Split)]
    assert not set.intersection(*frames), "templates of one frame are on both sides of the split"
    return {
        "largest_similarity": round(value, 4),
        "pair": [a, b],
        "threshold": threshold,
        "normalisation": NORMALISATION,
    }


def _clustered(entries: Sequence[Entry], threshold: float) -> list[list[Entry]]:
    """Distinct entries grouped by cluster. Raises `UserError` where one cluster is over 30 % of them."""
    distinct = PromptSet.of(entries).entries
    groups: dict[int, list[Entry]] = defaultdict(list)
    for entry, number in zip(distinct, clusters([e.template for e in distinct], threshold), strict=True):
        groups[number].append(entry)
    largest = max(groups.values(), key=len, default=[])
    if len(largest) > 1 and len(largest) > _LARGEST_CLUSTER * len(distinct):
        raise UserError(
            f"prompts: {len(largest)} of {len(distinct)} templates are near-copies of one another "
            f"({masked(largest[0].template.text)[:60]!r}...), at most 30 % may be; add more varied templates"
        )
    return list(groups.values())


def _with_frames(groups: Sequence[list[Entry]]) -> list[list[Entry]]:
    """The groups, joined where templates of one frame are in several."""
    joined: list[list[Entry]] = []
    for group in groups:
        frames = _frames(group)
        same = [other for other in joined if frames & _frames(other)]
        joined = [other for other in joined if other not in same]
        joined.append([e for each in (*same, group) for e in each])
    return joined


def _frames(entries: Iterable[Entry]) -> set[str]:
    """The frames of the grammar that these templates were composed from."""
    return {e.provenance["frame"] for e in entries if e.provenance.get("frame") is not None}


def _shuffled(groups: Sequence[list[Entry]], seed: int) -> list[list[Entry]]:
    """Groups in an order fixed by the seed and their content ids alone."""
    return [groups[i] for i in keyed_order([min(e.template.id for e in group) for group in groups], seed, "split")]


def _numbered(entries: Sequence[Entry], threshold: float) -> PromptSet:
    """The set with a cluster number in each entry."""
    prompts = PromptSet.of(entries)
    numbers = clusters(prompts.templates, threshold)
    return PromptSet(tuple(replace(e, cluster=c) for e, c in zip(prompts.entries, numbers, strict=True)))
