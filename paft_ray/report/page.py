"""The report as one self-contained HTML page: no script, no external file, every outside text escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from paft_ray.config import Config, builtin
from paft_ray.report import plots
from paft_ray.report.format import duration, percent, points, shade
from paft_ray.report.sources import History, Measured
from paft_ray.report.tables import Results, TemplateRow, provenance_counts, speeds, stage_rows, worst_templates


def render_page(
    *, title: str, config: Config, measured: Measured, history: History, results: Results, rows: Sequence[TemplateRow], cut: str | None = None
) -> str:
    """The HTML text of the page. `cut`: sentence about shortened prompts."""
    arms = list(results.arms)
    values = results.values
    environment = Environment(loader=FileSystemLoader(str(builtin("report"))), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=percent, points=points, shade=shade, duration=duration)
    prompts = {"asked": 0, "kept": 0, "rejected": {}, "grammar_share": None, **history.manifests.get("prompts", {})}
    return environment.get_template("template.html.j2").render(
        title=title,
        held_out=measured.held_out,
        config=config,
        config_yaml=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        values=values,
        refused=results.refused,
        arms=arms,
        colours={arm: plots.style(arm)[0] for arm in arms},
        parse_failure_rates=results.parse_failure_rates,
        speeds=speeds(measured),
        differences=results.differences,
        rows=rows,
        worst={arm: worst_templates(measured, rows, arm) for arm in reversed(arms)},
        template_plot=plots.data_uri(plots.template_plot(rows, arms)),
        template_plot_text=plot_text(values, f"{len(rows)} {'held-out' if measured.held_out else 'given'} templates"),
        loss_plot=plots.data_uri(plots.loss_plot(history.losses)) if history.losses else None,
        final_losses={name: points_[-1] for name, points_ in history.losses.items()},
        provenance=provenance_counts(measured),
        prompts=prompts,
        cut=cut,
        num_failed=measured.manifest.get("num_failed", 0),
        stages=stage_rows({**history.manifests, "evaluate": measured.manifest}, values["timings_s"]),
        versions=measured.manifest.get("key", {}).get("versions", {}),
    )


def plot_text(values: Mapping[str, Any], templates: str) -> str:
    """Alternative text of the template plot: what the eye would take from it."""
    parts = []
    for arm, table in values["arms"].items():
        worst = "" if table["worst"] is None else f", from {100 * table['worst']:.1f} to {100 * table['best']:.1f}"
        parts.append(f"{arm} mean {100 * table['mean']:.1f} %{worst}")
    return f"Accuracy of each arm on each of {templates}. " + "; ".join(parts) + "."
