"""Figures of one arm, and of a pair of arms, as results.json holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from typing import Any

import numpy as np

from paft_ray.config import ReportConfig
from paft_ray.metrics import ArmOutcomes, Difference, corrected, difference, figures, mean_interval

ARM_ORDER = ("base", "sft", "top_accuracy", "paft")
_DIFFERENCE = ("first", "second", "mean", "low", "high", "p_value", "p_adjusted", "detectable", "decisive", "num_seeds")


def arm_rank(arm: str) -> tuple[int, str]:
    """Sorts arms: base, sft, top_accuracy, paft, others."""
    return (ARM_ORDER.index(arm) if arm in ARM_ORDER else len(ARM_ORDER), arm)


def ordered(arms: Mapping[str, ArmOutcomes]) -> dict[str, ArmOutcomes]:
    """The arms by `arm_rank`."""
    return {name: arms[name] for name in sorted(arms, key=arm_rank)}


def pairs(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Every pair, the later arm first; paft against sft opens, then paft against the others."""
    found = [(later, earlier) for earlier, later in combinations(arms, 2)]
    return sorted(found, key=lambda pair: (pair != ("paft", "sft"), pair[0] != "paft"))


def arm_row(arm: ArmOutcomes, config: ReportConfig, seed: int) -> dict[str, Any]:
    """Figures of an arm by one measure with the interval of the mean, `low` and `high`."""
    found = asdict(figures(arm, threshold=config.threshold))
    found.pop("insufficient_data_reason")
    low, high = mean_interval(
        arm, rng=np.random.default_rng(seed), num_bootstrap=config.num_bootstrap, confidence=config.confidence
    ) or (None, None)
    return {"mean": found.pop("mean"), "low": low, "high": high, **found, "decile": found["quantiles"]["0.1"]}


def differences(
    arms: Mapping[str, ArmOutcomes], which: Iterable[tuple[str, str]], config: ReportConfig, seed: int
) -> dict[str, Difference]:
    """`FIRST-SECOND` -> difference, p-values corrected over all of them."""
    return corrected(
        {
            f"{first}-{second}": difference_of(arms[first], arms[second], (first, second), config, seed)
            for first, second in which
        }
    )


def difference_of(
    first: ArmOutcomes, second: ArmOutcomes, names: tuple[str, str], config: ReportConfig, seed: int
) -> Difference:
    """Mean of the first minus that of the second, with the interval that the section asks for."""
    return difference(
        first,
        second,
        rng=np.random.default_rng(seed),
        num_bootstrap=config.num_bootstrap,
        confidence=config.confidence,
        names=names,
    )


def spread_row(first: ArmOutcomes, second: ArmOutcomes, config: ReportConfig, seed: int) -> dict[str, Any]:
    """`std_ratio` of the two arms and difference of their lowest `decile`s, as results.json holds them."""
    return {"std_ratio": None, "decile": None}


def difference_row(gap: Difference) -> dict[str, Any]:
    """As results.json holds it."""
    return {key: getattr(gap, key) for key in _DIFFERENCE}


def short_row(gap: Difference) -> dict[str, Any]:
    """The same, of a measure or a part of the templates that is not corrected for."""
    return {"mean": gap.mean, "low": gap.low, "high": gap.high}


def on_templates(arm: ArmOutcomes, templates: Iterable[str]) -> ArmOutcomes:
    """The outcomes on these templates."""
    wanted = set(templates)
    places = [place for place, template in enumerate(arm.template_ids) if template in wanted]
    return replace(
        arm,
        template_ids=tuple(arm.template_ids[place] for place in places),
        correct=arm.correct[:, places],
        predicted=None if arm.predicted is None else arm.predicted[:, places],
    )
