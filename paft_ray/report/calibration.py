"""The calibration control: would it do to calibrate the labels of the arms, without training on many templates?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paft_ray.config import ReportConfig
from paft_ray.metrics import ArmOutcomes, difference
from paft_ray.metrics.calibration import SUFFIX, calibrated_arms, most_probable_arms
from paft_ray.report.arm_figures import arm_row, short_row
from paft_ray.report.arm_order import ordered
from paft_ray.report.findings import calibration_verdict
from paft_ray.report.inputs import Measured


def calibration(measured: Measured, pair: tuple[str, str] | None, config: ReportConfig, seed: int) -> dict[str, Any]:
    """Parts of results.json: `most_probable`, arm -> figures of its most probable label, and `calibration`, arm with
    suffix `+cal` -> the same with calibrated labels; of the primary `pair` also `calibration_differences` and the
    sentence `calibration_verdict`.

    Empty and None for a task without labels, where no labels were given to `measured`, and where only a part of the
    cells was asked.
    """
    nothing: dict[str, Any] = {
        "most_probable": {},
        "calibration": {},
        "calibration_differences": {},
        "calibration_verdict": None,
    }
    if not measured.labels or measured.manifest.get("budget", 1) < 1:
        return nothing
    plain = ordered(most_probable_arms(measured.outcomes, measured.labels))
    calibrated = calibrated_arms(measured.outcomes, measured.labels)
    if not plain:
        return nothing
    rows = {name: arm_row(calibrated[name], config, seed) for name in (f"{arm}{SUFFIX}" for arm in plain)}
    return {
        **nothing,
        "most_probable": {name: arm_row(arm, config, seed) for name, arm in plain.items()},
        "calibration": rows,
        **(_of_pair({**plain, **calibrated}, pair, config) if pair else {}),
    }


def _of_pair(arms: Mapping[str, ArmOutcomes], pair: tuple[str, str], config: ReportConfig) -> dict[str, Any]:
    """Differences of most probable labels: without calibration, of the second arm calibrated, and of both."""
    first, second = pair
    gaps = {}
    for one, other in (pair, (first, f"{second}{SUFFIX}"), (f"{first}{SUFFIX}", f"{second}{SUFFIX}")):
        found = difference(arms[one], arms[other], confidence=config.confidence, names=(one, other))
        gaps[f"{one}-{other}"] = {"first": one, "second": other, **short_row(found)}
    plain, control, _ = gaps.values()
    return {
        "calibration_differences": gaps,
        "calibration_verdict": calibration_verdict(plain, control, first=first, second=second),
    }
