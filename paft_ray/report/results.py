"""The content of results.json: figures of every arm by every measure, differences of every pair, groups of templates
and the calibration control."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from paft_ray.config import ReportConfig
from paft_ray.metrics import (
    MIN_TEMPLATES_INTERVAL,
    ArmOutcomes,
    Difference,
    Measure,
    insufficient_data_reason,
    verdict,
)
from paft_ray.metrics.collapse import balanced_accuracy
from paft_ray.report.answers import collapses, label_rates, value_column
from paft_ray.report.arm_figures import (
    arm_row,
    difference_row,
    differences,
    of_these,
    primary,
    short_row,
    spread_row,
)
from paft_ray.report.arm_order import ordered, pairs
from paft_ray.report.budget import estimated_rows, estimates
from paft_ray.report.calibration import calibration
from paft_ray.report.findings import JUDGED_BY, findings
from paft_ray.report.format import percent, span, within
from paft_ray.report.groups import groups
from paft_ray.report.inputs import History, Measured
from paft_ray.report.speed import speeds
from paft_ray.storage.stage_cache import Manifest

SCHEMA_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that results.json, the page and the Markdown file say about accuracy."""

    values: dict[str, Any]
    """The content of results.json."""
    by_measure: Mapping[Measure, Mapping[str, ArmOutcomes]]
    """Arms in the order base, sft, top_accuracy, paft, others; the headline measure first."""
    insufficient_data_reason: str | None
    """Why figures of spread are absent."""
    no_intervals: str | None
    """Why intervals are absent; they need fewer templates than figures of spread."""

    @property
    def arms(self) -> Mapping[str, ArmOutcomes]:
        """By the headline measure."""
        return next(iter(self.by_measure.values()))


@dataclass(frozen=True, kw_only=True)
class _MeasureFigures:
    """All arms by one measure."""

    arms: Mapping[str, ArmOutcomes]
    """On every example, cells that were not asked filled with estimates."""
    rows: Mapping[str, dict[str, Any]]
    """Arm -> figures."""
    differences: Mapping[str, Difference]


def results(measured: Measured, history: History, config: ReportConfig, seed: int) -> Results:
    """Figures per arm and differences for every pair of arms (paft - sft first); intervals follow `seed`."""
    headline, *others = measured.by_measure
    found = {headline: _measured(measured, headline, config, seed)}
    for measure in others:
        found[measure] = _measured(measured, measure, of_these(config, measured.by_measure[measure]), seed)
    main = found[headline]
    manifests = {**(history.manifests if measured.held_out else {}), "evaluate": measured.manifest}
    by_measure = {measure: each.arms for measure, each in found.items()}
    values = {
        "schema_version": SCHEMA_VERSION,
        "headline": headline,
        "confidence": config.confidence,
        "primary": primary(main.differences),
        "arms": _arms(measured, found),
        "differences": {name: _difference(measured, name, found, config, seed) for name in main.differences},
        "groups": groups(measured, by_measure, config, seed),
        **calibration(measured, _primary_pair(main), config, seed),
        "timings_s": {stage: manifest["time_s"] for stage, manifest in manifests.items() if "time_s" in manifest},
        "engine_starts": sum(manifest.get("engine_starts", 0) for manifest in manifests.values()),
        "peak_memory_gib": _peak_memory(manifests.values()),
        "verdict": _verdict(measured, main, headline),
    }
    num_templates = len(next(iter(main.arms.values())).template_ids)
    return Results(
        values={**values, "findings": findings(values)},
        by_measure=by_measure,
        insufficient_data_reason=insufficient_data_reason(num_templates),
        no_intervals=insufficient_data_reason(num_templates, MIN_TEMPLATES_INTERVAL),
    )


def _measured(measured: Measured, measure: Measure, config: ReportConfig, seed: int) -> _MeasureFigures:
    asked = ordered(measured.by_measure[measure])
    arms, estimated = estimates(measured, asked, confidence=config.confidence, seed=seed)
    collapsed = collapses(measured.outcomes, measure)
    balanced = balanced_accuracy(measured.outcomes, value_column(measure)) if measured.has_labels else {}
    rows = {
        name: {
            **arm_row(arm, config, seed),
            "balanced_accuracy": balanced.get(name),
            "collapsed": collapsed[name],
        }
        for name, arm in arms.items()
    }
    return _MeasureFigures(
        arms=arms,
        rows=estimated_rows(rows, estimated),
        differences=differences(asked, pairs(asked), config),
    )


def _arms(measured: Measured, found: Mapping[Measure, _MeasureFigures]) -> dict[str, dict[str, Any]]:
    """Arm -> figures by the headline measure, how it answers, and `measures`: the figures by each."""
    rates, speed, main = label_rates(measured), speeds(measured), next(iter(found.values()))
    return {
        arm: {
            **row,
            **rates[arm],
            **speed[arm],
            "measures": {measure: each.rows[arm] for measure, each in found.items() if arm in each.rows},
        }
        for arm, row in main.rows.items()
    }


def _difference(
    measured: Measured, name: str, found: Mapping[Measure, _MeasureFigures], config: ReportConfig, seed: int
) -> dict[str, Any]:
    """The difference by the headline measure with that of spread, and `measures`: by the others, which are not
    corrected for."""
    main, *others = found
    gap, arms = found[main].differences[name], measured.by_measure[main]
    return {
        **difference_row(gap),
        **spread_row(arms[gap.first], arms[gap.second], config, seed),
        "measures": {
            measure: short_row(gaps[name]) for measure in others if name in (gaps := found[measure].differences)
        },
    }


def _primary_pair(main: _MeasureFigures) -> tuple[str, str] | None:
    named = primary(main.differences)
    return (main.differences[named].first, main.differences[named].second) if named else None


def _verdict(measured: Measured, main: _MeasureFigures, headline: Measure) -> str:
    named = primary(main.differences)
    if named is None:
        arm, row = next(iter(main.rows.items()))
        interval = span(*within(row["low"], row["high"]), percent)
        return (
            f"only arm {arm} was measured: {percent(row['mean'])} % mean {headline} ({interval}), worst template "
            f"{percent(row['worst'])} %"
        )
    where = "held-out templates" if measured.held_out else "the given templates"
    return verdict(main.differences[named], templates=f"{where}, judged by {JUDGED_BY[headline]}")


def _peak_memory(manifests: Iterable[Manifest]) -> float | None:
    peaks = [manifest["peak_memory_gib"] for manifest in manifests if manifest.get("peak_memory_gib") is not None]
    return max(peaks) if peaks else None
