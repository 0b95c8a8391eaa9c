"""Arms in the order of a report, and which pairs of them it compares. Imports no figures: it is read before Ray
starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TypeVar

from paft_ray.errors import UserError

T = TypeVar("T")
ARM_ORDER = ("base", "sft", "top_accuracy", "paft")


def arm_rank(arm: str) -> tuple[int, str]:
    """Sorts arms: base, sft, top_accuracy, paft, others."""
    return (ARM_ORDER.index(arm) if arm in ARM_ORDER else len(ARM_ORDER), arm)


def ordered(arms: Mapping[str, T]) -> dict[str, T]:
    """The arms by `arm_rank`."""
    return {name: arms[name] for name in sorted(arms, key=arm_rank)}


def pairs(arms: Iterable[str]) -> list[tuple[str, str]]:
    """Every pair, the later arm first; paft against sft opens, then paft against the others."""
    found = [(later, earlier) for earlier, later in combinations(sorted(arms, key=arm_rank), 2)]
    return sorted(found, key=lambda pair: (pair != ("paft", "sft"), pair[0] != "paft"))


def check_primary(primary: str | None, trained: Sequence[str]) -> None:
    """Raises `UserError` where the comparison that is named beforehand is none of the base model and these arms."""
    names = [f"{first}-{second}" for first, second in pairs({"base", *trained})]
    if primary is not None and primary not in names:
        raise UserError(
            f"report.primary={primary}: no comparison of the arms base, {', '.join(trained)}; allowed: "
            f"{', '.join(names)}"
        )
