"""Groups of held-out templates (another style, another answer format), reported apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paft_ray.config import ReportConfig
from paft_ray.metrics import ArmOutcomes, Measure
from paft_ray.report.arm_figures import arm_row, differences, of_these, part_of, short_row
from paft_ray.report.arm_order import pairs
from paft_ray.report.inputs import Measured

UNGROUPED = "other"
"""Templates without a group, where others have one."""
_OF_MEASURE = ("mean", "low", "high", "std", "decile", "worst")


def groups(
    measured: Measured, by_measure: Mapping[Measure, Mapping[str, ArmOutcomes]], config: ReportConfig, seed: int
) -> dict[str, dict[str, Any]]:
    """Group -> `num_templates`, `arms` (figures by the headline measure, with `measures`) and `differences`, without
    correction; {} where no template has a group.

    Where only a part of the cells was asked, figures are of the estimated grid and have no intervals.
    """
    by_template = measured.groups
    headline, arms = next(iter(by_measure.items()))
    ids = next(iter(arms.values())).template_ids
    if not any(template in by_template for template in ids):
        return {}
    members: dict[str, list[str]] = {}
    for template in ids:
        members.setdefault(by_template.get(template, UNGROUPED), []).append(template)
    whole = measured.manifest.get("budget", 1) == 1
    found = {}
    for name in sorted(members):
        part = {
            measure: {arm: part_of(outcomes, members[name]) for arm, outcomes in of.items()}
            for measure, of in by_measure.items()
        }
        found[name] = {
            "num_templates": len(members[name]),
            "templates": members[name],
            "arms": _arms(part, config, seed, intervals=whole),
            "differences": _differences(part, headline, config) if whole else {},
        }
    return found


def _arms(
    part: Mapping[Measure, Mapping[str, ArmOutcomes]], config: ReportConfig, seed: int, *, intervals: bool
) -> dict[str, dict[str, Any]]:
    rows = {measure: {arm: arm_row(of[arm], config, seed) for arm in of} for measure, of in part.items()}
    if not intervals:
        rows = {measure: {arm: _without_intervals(row) for arm, row in of.items()} for measure, of in rows.items()}
    main = next(iter(rows.values()))
    return {
        arm: {
            **row,
            "measures": {
                measure: {key: of[arm][key] for key in _OF_MEASURE} for measure, of in rows.items() if arm in of
            },
        }
        for arm, row in main.items()
    }


def _differences(
    part: Mapping[Measure, Mapping[str, ArmOutcomes]], headline: Measure, config: ReportConfig
) -> dict[str, dict[str, Any]]:
    gaps = {measure: differences(of, pairs(of), of_these(config, of)) for measure, of in part.items()}
    return {
        name: {
            "first": gap.first,
            "second": gap.second,
            **short_row(gap),
            "measures": {
                measure: short_row(of[name]) for measure, of in gaps.items() if measure != headline and name in of
            },
        }
        for name, gap in gaps[headline].items()
    }


def _without_intervals(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "low": None, "high": None, "intervals": None}
