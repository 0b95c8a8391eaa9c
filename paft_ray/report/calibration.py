"""The calibration control: would it do to calibrate the labels of the arms, without training on many templates?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paft_ray.config import ReportConfig
from paft_ray.metrics import ArmOutcomes, Difference, Measure, difference
from paft_ray.metrics.calibration import SUFFIX, calibrated_arms
from paft_ray.report.arm_figures import arm_row, primary, short_row
from paft_ray.report.findings import calibration_verdict
from paft_ray.report.inputs import Measured


def calibration(
    measured: Measured,
    by_measure: Mapping[Measure, Mapping[str, ArmOutcomes]],
    knowledge: Mapping[str, Difference],
    config: ReportConfig,
    seed: int,
) -> dict[str, Any]:
    """Parts of results.json: `calibration`, arm with suffix `+cal` -> figures of knowledge; of the primary one of
    the differences of `knowledge` also `calibration_differences` and the sentence `calibration_verdict`.

    Empty and None for a task without labels, where no labels were given to `measured`, and where only a part of the
    cells was asked.
    """
    nothing: dict[str, Any] = {"calibration": {}, "calibration_differences": {}, "calibration_verdict": None}
    if not measured.labels or "knowledge" not in by_measure or measured.manifest.get("budget", 1) < 1:
        return nothing
    calibrated = calibrated_arms(measured.outcomes, measured.labels)
    names = [name for arm in by_measure["knowledge"] if (name := f"{arm}{SUFFIX}") in calibrated]
    if not names:
        return nothing
    rows = {name: arm_row(calibrated[name], config, seed) for name in names}
    arms = {**by_measure["knowledge"], **calibrated}
    named = primary(knowledge)
    of_pair = _of_pair(arms, knowledge[named], config) if named else {}
    return {**nothing, "calibration": rows, **of_pair}


def _of_pair(arms: Mapping[str, ArmOutcomes], knowledge: Difference, config: ReportConfig) -> dict[str, Any]:
    first, second = knowledge.first, knowledge.second

    def gap(one: str, other: str) -> dict[str, Any]:
        found = difference(arms[one], arms[other], confidence=config.confidence, names=(one, other))
        return {"first": one, "second": other, **short_row(found)}

    gaps = [gap(first, f"{second}{SUFFIX}"), gap(f"{first}{SUFFIX}", f"{second}{SUFFIX}")]
    return {
        "calibration_differences": {f"{found['first']}-{found['second']}": found for found in gaps},
        "calibration_verdict": calibration_verdict(short_row(knowledge), gaps[0], first=first, second=second),
    }
