"""Writes results.json, report.md and report.html of a run, or of another evaluation of its arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from paft_ray.config import Config
from paft_ray.report.axes import Varied
from paft_ray.report.axes_report import AxesReport
from paft_ray.report.budget import budget_note
from paft_ray.report.check import Checks
from paft_ray.report.inputs import History, Measured
from paft_ray.report.markdown import render_markdown
from paft_ray.report.page import render_report_page
from paft_ray.report.prompt_notes import prompt_notes
from paft_ray.report.results import Results, results
from paft_ray.report.tables import cut_note, template_rows
from paft_ray.storage.manifests import REPORT, SYNTHESIZE
from paft_ray.storage.outputs import write_files
from paft_ray.storage.store import Store, json_bytes


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """A report that was written."""

    values: dict[str, Any]
    """The content of its JSON file."""
    files: dict[str, str]
    """Path -> SHA-256."""


def write_report(
    run: Store,
    *,
    config: Config,
    stages: Sequence[str],
    measured: Measured | None = None,
    out: Store | None = None,
    folder: str = REPORT,
    varied: Varied | None = None,
    checks: Checks | None = None,
) -> WrittenReport:
    """Writes results.json, report.md and report.html to `folder` of `out` (default: of the run itself).

    `stages`: names of the run's stages in their order. `measured`: another evaluation of the run's arms; default: the
    run's own. `folder` "" writes into the root of `out`. `varied`: outcomes of a suite, whose axes are reported.
    `checks`: what the results must reach. Raises `UserError` where the run has no evaluation.
    """
    measured, out = measured or Measured.of(run), out or run
    history = History.of(run, stages)
    found = results(measured, history, config.report, config.seed)
    axes = AxesReport.of(varied, config.report.confidence) if varied else None
    if axes:
        found.values["axes"] = axes.values
        found.values["findings"] += axes.findings
    if checks and (made := checks(found.values)):
        found.values["checks"] = [asdict(check) for check in made]
    rows = template_rows(measured, found.by_measure)
    truncation = _truncation(found, measured, history, config)
    page = render_report_page(
        title=run.name,
        config=config,
        measured=measured,
        history=history,
        results=found,
        rows=rows,
        axes=axes,
        truncation=truncation,
    )
    text = render_markdown(
        title=run.name,
        config=config,
        measured=measured,
        results=found,
        rows=rows,
        rejected=history.manifests.get(SYNTHESIZE, {}).get("rejected", {}),
        notes=prompt_notes(history.manifests, history.quality),
        axes=axes,
        truncation=truncation,
    )
    return WrittenReport(values=found.values, files=write_files(out, _files(folder, found, text, page)))


def _truncation(found: Results, measured: Measured, history: History, config: Config) -> str | None:
    """What is said of cells that were not asked, and of fields that were truncated."""
    notes = (
        budget_note(found.values, config.report.confidence),
        cut_note(measured, history, config.model.max_prompt_tokens),
    )
    return " ".join(filter(None, notes)) or None


def _files(folder: str, found: Results, text: str, page: str) -> dict[str, bytes]:
    prefix = f"{folder}/" if folder else ""
    return {
        f"{prefix}results.json": json_bytes(found.values),
        f"{prefix}report.md": text.encode(),
        f"{prefix}report.html": page.encode(),
    }
