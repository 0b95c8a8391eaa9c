"""The result of a sweep over prompt-set sizes: sweep.json, a page, Markdown, and the curve as SVG and PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from paft_ray.config import Config, ReportConfig
from paft_ray.metrics import (
    ArmOutcomes,
    Measure,
    figures,
    fit_saturation,
    gain_over_average,
    mean_interval,
    recommended_size,
)
from paft_ray.report.format import percent, points, span
from paft_ray.report.inputs import arms_by_measure
from paft_ray.report.page import render_sweep_page
from paft_ray.report.plots import sweep_plot
from paft_ray.report.render import WrittenReport
from paft_ray.report.results import SCHEMA_VERSION
from paft_ray.storage.artifacts import SWEEP_RESULT
from paft_ray.storage.manifests import REPORT
from paft_ray.storage.outputs import write_files
from paft_ray.storage.store import Store
from paft_ray.storage.versions import versions


@dataclass(frozen=True, kw_only=True)
class TrialOutcomes:
    """One training of the sweep, evaluated."""

    name: str
    size: int
    """Number of training templates."""
    subset_seed: int
    """Which nested chain of subsets."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Training settings that differ from section `train`."""
    validation_loss: float | None = None
    """Where trials are compared."""
    outcomes: pa.Table
    """Rows of one arm with the columns of evaluate/outcomes.parquet, on the templates and examples that all trials
    share."""


def write_sweep(
    run: Store, trials: Sequence[TrialOutcomes], *, config: Config, starts: tuple[int, int], counts: Mapping[str, int]
) -> WrittenReport:
    """Writes report/sweep.json with sweep.html, sweep.md, sweep.svg and sweep.png next to it.

    `starts`: engine starts of the evaluation, made and planned; `counts`: trials by how they ended. Where a size and
    subset has several trials (other settings), the curve takes the one with the lowest validation loss. The interval of
    a size is over templates and examples, and over subset seeds where there are several. Raises `ValueError` where
    there is no trial, or one whose outcomes hold another number of arms than one.
    """
    if not trials:
        raise ValueError("a sweep report needs at least one trial")
    trials = sorted(trials, key=lambda trial: (trial.size, trial.subset_seed, trial.name))
    by_measure = {trial.name: _only_arm(trial) for trial in trials}
    headline = next(iter(by_measure[trials[0].name]))
    arms = {name: found[headline] for name, found in by_measure.items()}
    on_curve = _best_settings(trials)
    rows = [_row(trial, by_measure[trial.name], config.report, trial.name in on_curve) for trial in trials]
    wholes = {
        size: _whole([arms[trial.name] for trial in trials if trial.size == size and trial.name in on_curve])
        for size in sorted({trial.size for trial in trials})
    }
    curve = [
        _point(size, whole, [row for row in rows if row["size"] == size and row["on_curve"]], config)
        for size, whole in wholes.items()
    ]
    taken = [row for row in rows if row["on_curve"]]
    means = {point["size"]: [row["mean"] for row in taken if row["size"] == point["size"]] for point in curve}
    recommended, reason = recommended_size(wholes)
    gain = _gain(wholes, recommended, config)
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "headline": headline,
        "sizes": rows,
        "curve": curve,
        "fit": asdict(fit_saturation(means)),
        "recommended_size": recommended,
        "reason": reason,
        "gain_over_one_template": gain,
        "engine_starts": starts[0],
        "planned_engine_starts": starts[1],
        "trials": dict(counts),
    }
    page = render_sweep_page(title=run.name, config=config, sweep=result, versions=versions())
    pictures = {
        f"{REPORT}/sweep.{form}": sweep_plot(curve, taken, form=form, fit=result["fit"], recommended=recommended)
        for form in ("svg", "png")
    }
    texts = {f"{REPORT}/sweep.md": _markdown(result).encode(), f"{REPORT}/sweep.html": page.encode()}
    return WrittenReport(values=result, files=SWEEP_RESULT.write(run, result) | write_files(run, {**texts, **pictures}))


def _best_settings(trials: Sequence[TrialOutcomes]) -> set[str]:
    """Names of the trials on the curve: one per size and subset, the one with the lowest validation loss (never chosen
    by held-out accuracy)."""
    best: dict[tuple[int, int], TrialOutcomes] = {}
    for trial in trials:
        place = (trial.size, trial.subset_seed)
        if place not in best or _loss(trial) < _loss(best[place]):
            best[place] = trial
    return {trial.name for trial in best.values()}


def _loss(trial: TrialOutcomes) -> float:
    return math.inf if trial.validation_loss is None else trial.validation_loss


def _row(
    trial: TrialOutcomes, by_measure: Mapping[Measure, ArmOutcomes], config: ReportConfig, on_curve: bool
) -> dict[str, Any]:
    found = figures(next(iter(by_measure.values())), threshold=config.threshold)
    return {
        "trial": trial.name,
        "size": trial.size,
        "seed": trial.subset_seed,
        "settings": dict(trial.settings),
        "validation_loss": trial.validation_loss,
        "on_curve": on_curve,
        "mean": found.mean,
        "std": found.std,
        "worst": found.worst,
        "measures": {measure: {"mean": float(arm.by_template.mean())} for measure, arm in by_measure.items()},
    }


def _gain(wholes: Mapping[int, ArmOutcomes], size: int, config: Config) -> dict[str, Any] | None:
    """What the recommended size has over the average training on one template, of which there must be several."""
    if size == 1 or 1 not in wholes or len(wholes[1].seeds) < 2:
        return None
    gap = gain_over_average(wholes[size], [wholes[1]], confidence=config.report.confidence)
    return {"size": size, "num_templates": len(wholes[1].seeds), "mean": gap.mean, "low": gap.low, "high": gap.high}


def _whole(arms: Sequence[ArmOutcomes]) -> ArmOutcomes:
    """All trials of a size, as its seeds."""
    return replace(
        arms[0], seeds=tuple(range(len(arms))), correct=np.concatenate([arm.correct for arm in arms]), predicted=None
    )


def _point(size: int, whole: ArmOutcomes, rows: Sequence[Mapping[str, Any]], config: Config) -> dict[str, Any]:
    """One size of the curve: means over its subsets, the interval of the mean, and the range of std and worst."""
    low, high = mean_interval(whole, confidence=config.report.confidence) or (None, None)
    point: dict[str, Any] = {
        "size": size,
        "mean": float(np.mean([row["mean"] for row in rows])),
        "low": low,
        "high": high,
        "num_trials": len(rows),
        "measures": {
            measure: {"mean": float(np.mean([row["measures"][measure]["mean"] for row in rows]))}
            for measure in rows[0]["measures"]
        },
    }
    for name in ("std", "worst"):
        known = [row[name] for row in rows if row[name] is not None]
        point |= {
            name: float(np.mean(known)) if known else None,
            f"{name}_range": [min(known), max(known)] if known else None,
        }
    return point


def _only_arm(trial: TrialOutcomes) -> dict[Measure, ArmOutcomes]:
    """Measure -> outcomes of the trial, the headline first."""
    found = arms_by_measure(trial.outcomes)
    if (number := len(next(iter(found.values())))) != 1:
        raise ValueError(f"trial {trial.name}: outcomes of one arm are needed, found {number}")
    return {measure: next(iter(arms.values())) for measure, arms in found.items()}


def _markdown(result: dict[str, Any]) -> str:
    others = [measure for measure in result["curve"][0]["measures"] if measure != result["headline"]]
    head = ("training templates", "trials", f"{result['headline']}, %", "interval", "std", "worst, %")
    lines = [
        f"| {' | '.join((*head, *(f'{measure}, %' for measure in others)))} |",
        f"| {' | '.join(['---'] * (len(head) + len(others)))} |",
    ]
    for point in result["curve"]:
        figures_ = (
            percent(point["mean"]),
            span(point["low"], point["high"], percent),
            percent(point["std"]),
            percent(point["worst"]),
            *(percent(point["measures"][measure]["mean"]) for measure in others),
        )
        lines.append(f"| {point['size']} | {point['num_trials']} | {' | '.join(figures_)} |")
    ended = ", ".join(f"{number} {how}" for how, number in result["trials"].items())
    lines += [
        "",
        f"Recommended size: **{result['recommended_size']}**. {result['reason']}",
        *_gain_sentence(result["gain_over_one_template"]),
        "",
        f"Trials: {ended}; {result['engine_starts']} engine starts.",
    ]
    return "# Prompt-set size\n\n" + "\n".join([*lines, "", "![Held-out accuracy by size](sweep.svg)"]) + "\n"


def _gain_sentence(gain: Mapping[str, Any] | None) -> list[str]:
    if gain is None:
        return []
    interval = "" if gain["low"] is None else f" ({span(gain['low'], gain['high'], points)})"
    return [
        "",
        f"{gain['size']} templates against the average of {gain['num_templates']} single ones: "
        f"{points(gain['mean'])} percentage points{interval}.",
    ]
