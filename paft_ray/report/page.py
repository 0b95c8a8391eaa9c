"""The report as one self-contained HTML page: no external file, every outside text escaped, its hidden characters
written out.

One small inline script sorts tables; script and style are admitted by their hashes in the page's
Content-Security-Policy, nothing else is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paft_ray.config import Config
from paft_ray.report import captions
from paft_ray.report.axes_report import AxesReport
from paft_ray.report.cost import training_costs, worker_time
from paft_ray.report.figure_tables import collapsed_templates, figure_tables
from paft_ray.report.flips import flips_by_arm
from paft_ray.report.format import duration, percent, shade, whole
from paft_ray.report.inputs import History, Measured
from paft_ray.report.plots import styles
from paft_ray.report.prompt_notes import prompt_notes
from paft_ray.report.provenance import origins
from paft_ray.report.results import Results
from paft_ray.report.tables import TemplateRow, provenance_counts, stage_rows, worst_templates
from paft_ray.report.templates import render_page
from paft_ray.sanitize import visible
from paft_ray.storage.manifests import SYNTHESIZE

_SUBJECT = "robustness to the prompt template"


def render_report_page(
    *,
    title: str,
    config: Config,
    measured: Measured,
    history: History,
    results: Results,
    rows: Sequence[TemplateRow],
    axes: AxesReport | None = None,
    truncation: str | None = None,
) -> str:
    """The HTML text of the page. `truncation`: sentence about truncated prompts."""
    arms, values, kind = list(results.arms), results.values, "held-out" if measured.held_out else "given"
    return _render(
        "report.html.j2",
        config,
        arms=arms,
        title=title,
        subject=_SUBJECT,
        held_out=measured.held_out,
        kind=kind,
        values=values,
        num_examples=values["arms"][arms[0]]["num_examples"],
        several_seeds=_most_seeds(values["arms"]) > 1,
        tables=figure_tables(results, config.report, where=f"{len(rows)} {kind} templates"),
        collapsed=collapsed_templates(values, rows),
        arms_plot=captions.arms(rows, values),
        rows=rows,
        axes=axes,
        axes_plot=axes and captions.axes(axes.values, values["headline"], config.report.confidence),
        models=measured.models,
        template_plots=captions.templates(rows, arms, values, kind=kind),
        flips=flips_by_arm(measured, rows, results.arms),
        worst={arm: worst_templates(measured, rows, arm) for arm in reversed(arms)},
        sweep=_sweep(history.sweep) if history.sweep and measured.held_out else None,
        curves=captions.training(history),
        truncation=truncation,
        num_failed=measured.manifest.get("num_failed", 0),
        **_prompt_set(measured, history, rows),
        **_costs(measured, history, values, config),
        versions=measured.manifest.get("made_with", {}).get("versions", {}),
    )


def _prompt_set(measured: Measured, history: History, rows: Sequence[TemplateRow]) -> dict[str, Any]:
    none = {"asked": 0, "kept": 0, "rejected": {}, "grammar_share": None}
    return {
        "provenance": provenance_counts(measured),
        "origins": origins(measured.templates, history.scores, rows),
        "prompts": {**none, **history.manifests.get(SYNTHESIZE, {})},
        "prompt_notes": prompt_notes(history.manifests, history.quality),
    }


def _costs(measured: Measured, history: History, values: Mapping[str, Any], config: Config) -> dict[str, Any]:
    timings = values["timings_s"]
    return {
        "stages": stage_rows({**history.manifests, "evaluate": measured.manifest}, timings),
        "total_s": sum(timings.values()) or 1.0,
        "trainings": training_costs(history),
        "effort": _effort(config, history, values),
    }


def render_sweep_page(
    *, title: str, config: Config, sweep: Mapping[str, Any], versions: Mapping[str, str] | None = None
) -> str:
    """The HTML text of a page about a sweep alone. `sweep`: the content of sweep.json; `versions`: of the libraries
    that decided it."""
    return _render(
        "sweep.html.j2",
        config,
        arms=(),
        title=title,
        subject="how many prompt templates are enough",
        sweep=_sweep(sweep),
        versions=versions or {},
    )


def _render(template: str, config: Config, *, arms: Sequence[str], **values: Any) -> str:
    return render_page(
        template,
        config,
        script="sort.js",
        filters={"percent": percent, "shade": shade, "duration": duration, "whole": whole, "shown": visible},
        colors=[color for color, _ in styles(arms).values()],
        arms=arms,
        **values,
    )


def _most_seeds(arms: Mapping[str, Mapping[str, Any]]) -> int:
    return max(int(arm["num_seeds"]) for arm in arms.values())


def _effort(config: Config, history: History, values: Mapping[str, Any]) -> list[str]:
    """Sentences below the tables of cost."""
    sentences = []
    if (seconds := worker_time(history, config.train.num_workers)) is not None:
        workers = f"{config.train.num_workers} worker{'s' * (config.train.num_workers > 1)}"
        device = "GPU" if config.train.gpus_per_worker else "CPU"
        sentences.append(f"Training took {seconds / 3600:.2f} {device} worker hours ({workers} per training).")
    if values["peak_memory_gib"] is not None:
        sentences.append(f"Peak memory of the largest training worker: {values['peak_memory_gib']:.1f} GiB.")
    return sentences


def _sweep(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says about the content of sweep.json; keys that it may lack become None."""
    trials = [{"settings": {}, "validation_loss": None, "on_curve": True, **trial} for trial in sweep["sizes"]]
    size, reason = sweep.get("recommended_size"), sweep.get("reason")
    recommendation = None if size is None else f"Recommended: {size} training template{'s' * (size > 1)}."
    ended = ", ".join(f"{number} {how}" for how, number in sweep.get("trials", {}).items())
    starts = None if "engine_starts" not in sweep else f"{sweep['engine_starts']} engine starts"
    if starts and "planned_engine_starts" in sweep:
        starts += f" ({sweep['planned_engine_starts']} planned)"
    return {
        "headline": sweep.get("headline", "accuracy"),
        "curve": [{"std": None, "worst": None, **point} for point in sweep["curve"]],
        "sizes": trials,
        "compared": any(trial["settings"] for trial in trials),
        "recommended_size": size,
        "verdict": " ".join(part for part in (recommendation, reason) if part),
        "plot": captions.sweep(sweep, [trial for trial in trials if trial["on_curve"]]),
        "fit_text": _fit_text(sweep.get("fit")),
        "effort": "; ".join(part for part in (f"Trials: {ended}" if ended else "", starts or "") if part) + "."
        if ended or starts
        else None,
    }


def _fit_text(fit: Mapping[str, Any] | None) -> str | None:
    if not fit:
        return None
    if fit.get("asymptote") is None:
        return f"No saturation curve: {fit['reason']}." if fit.get("reason") else None
    curve = f"{100 * fit['asymptote']:.1f} − {100 * fit['gain']:.1f} × size^(−{fit['exponent']:.2f})"
    return (
        f"Fitted saturation curve: accuracy in percent = {curve}; with endless templates it would reach "
        f"{100 * fit['asymptote']:.1f} % (extrapolated)."
    )
