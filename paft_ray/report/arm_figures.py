"""Figures of one arm, and of a pair of arms, as results.json holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paft_ray.config import ReportConfig
from paft_ray.metrics import (
    ArmOutcomes,
    Difference,
    corrected,
    difference,
    figures,
    mean_interval,
    spread_difference,
    spread_intervals,
)
from paft_ray.report.arm_order import pairs

_DIFFERENCE = (
    "first",
    "second",
    "mean",
    "low",
    "high",
    "p_value",
    "p_adjusted",
    "is_primary",
    "detectable",
    "decisive",
    "num_seeds",
    "grid",
)


def arm_row(arm: ArmOutcomes, config: ReportConfig, seed: int) -> dict[str, Any]:
    """Figures of an arm by one measure with the interval of the mean, `low` and `high`, and `intervals` of std, decile
    and worst (None where there are none)."""
    found = asdict(figures(arm, threshold=config.threshold))
    found.pop("insufficient_data_reason")
    low, high = mean_interval(arm, confidence=config.confidence) or (None, None)
    spread = spread_intervals(
        arm, rng=np.random.default_rng(seed), num_bootstrap=config.num_bootstrap, confidence=config.confidence
    )
    intervals = spread and {name: {"low": one["low"], "high": one["high"]} for name, one in asdict(spread).items()}
    return {"mean": found.pop("mean"), "low": low, "high": high, **found, "intervals": intervals}


def differences(
    arms: Mapping[str, ArmOutcomes], which: Iterable[tuple[str, str]], config: ReportConfig
) -> dict[str, Difference]:
    """`FIRST-SECOND` -> difference, p-values corrected over all but the primary one. Raises `UserError` where that is
    none of them."""
    found = {
        f"{first}-{second}": difference(arms[first], arms[second], confidence=config.confidence, names=(first, second))
        for first, second in which
    }
    return corrected(found, config.primary) if found else {}


def of_these(config: ReportConfig, arms: Iterable[str]) -> ReportConfig:
    """The same without a primary comparison that these arms lack: not every arm has every measure."""
    is_there = config.primary in {"-".join(pair) for pair in pairs(arms)}
    return config if is_there else config.model_copy(update={"primary": None})


def primary(found: Mapping[str, Difference]) -> str | None:
    """Name of the comparison that was named beforehand, else of the first."""
    return next((name for name, gap in found.items() if gap.is_primary), next(iter(found), None))


def spread_row(first: ArmOutcomes, second: ArmOutcomes, config: ReportConfig, seed: int) -> dict[str, Any]:
    """`std_ratio` of the two arms and difference of their lowest `decile`s, as results.json holds them."""
    found = spread_difference(
        first, second, rng=np.random.default_rng(seed), num_bootstrap=config.num_bootstrap, confidence=config.confidence
    )
    if found is None:
        return {"std_ratio": None, "decile": None}
    ratio, decile = found.std_ratio, found.decile
    return {
        "std_ratio": ratio and asdict(ratio),
        "decile": {"mean": decile.value, "low": decile.low, "high": decile.high},
    }


def difference_row(gap: Difference) -> dict[str, Any]:
    """As results.json holds it."""
    return {key: getattr(gap, key) for key in _DIFFERENCE}


def short_row(gap: Difference) -> dict[str, Any]:
    """The same, of a measure or a part of the templates that is not corrected for."""
    return {"mean": gap.mean, "low": gap.low, "high": gap.high}


def part_of(arm: ArmOutcomes, templates: Sequence[str], examples: Sequence[str] | None = None) -> ArmOutcomes:
    """The outcomes on these templates and examples (None: all), in this order."""
    examples = arm.example_ids if examples is None else examples
    cells = np.ix_(range(len(arm.seeds)), _places(arm.template_ids, templates), _places(arm.example_ids, examples))
    return replace(
        arm,
        template_ids=tuple(templates),
        example_ids=tuple(examples),
        correct=arm.correct[cells],
        predicted=None if arm.predicted is None else arm.predicted[cells],
    )


def common_cells(one: ArmOutcomes, other: ArmOutcomes) -> tuple[ArmOutcomes, ArmOutcomes]:
    """Two arms of different tables on the templates and examples of which both measured a cell."""
    templates = sorted(set(one.template_ids) & set(other.template_ids))
    examples = sorted(set(one.example_ids) & set(other.example_ids))
    one, other = part_of(one, templates, examples), part_of(other, templates, examples)
    both = _measured(one) & _measured(other)
    templates = [templates[t] for t in np.flatnonzero(both.any(axis=1))]
    examples = [examples[e] for e in np.flatnonzero(both.any(axis=0))]
    return part_of(one, templates, examples), part_of(other, templates, examples)


def _measured(arm: ArmOutcomes) -> NDArray[np.bool_]:
    """Shape [templates, examples]."""
    return np.asarray(~np.isnan(arm.correct).all(axis=0))


def _places(ids: Sequence[str], wanted: Sequence[str]) -> list[int]:
    place = {each: number for number, each in enumerate(ids)}
    return [place[each] for each in wanted]
