"""Writes results.json, report.md and report.html of a run, or of another evaluation of its arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paft_ray.config import Config
from paft_ray.report.budget import budget_note
from paft_ray.report.inputs import History, Measured
from paft_ray.report.markdown import render_markdown
from paft_ray.report.page import render_report_page
from paft_ray.report.prompt_notes import prompt_notes
from paft_ray.report.results import results
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
) -> WrittenReport:
    """Writes results.json, report.md and report.html to `folder` of `out` (default: of the run itself).

    `stages`: names of the run's stages in their order. `measured`: another evaluation of the run's arms; default: the
    run's own. `folder` "" writes into the root of `out`. Raises `UserError` where the run has no evaluation.
    """
    measured, out = measured or Measured.of(run), out or run
    history = History.of(run, stages)
    found = results(measured, history, config.report, config.seed)
    rows = template_rows(measured, found.by_measure)
    notes = (
        budget_note(found.values, config.report.confidence),
        cut_note(measured, history, config.model.max_prompt_tokens),
    )
    truncation = " ".join(filter(None, notes)) or None
    rejected = history.manifests.get(SYNTHESIZE, {}).get("rejected", {})
    page = render_report_page(
        title=run.name,
        config=config,
        measured=measured,
        history=history,
        results=found,
        rows=rows,
        truncation=truncation,
    )
    text = render_markdown(
        title=run.name,
        config=config,
        measured=measured,
        results=found,
        rows=rows,
        rejected=rejected,
        notes=prompt_notes(history.manifests, history.quality),
        truncation=truncation,
    )
    prefix = f"{folder}/" if folder else ""
    files = {
        f"{prefix}results.json": json_bytes(found.values),
        f"{prefix}report.md": text.encode(),
        f"{prefix}report.html": page.encode(),
    }
    return WrittenReport(values=found.values, files=write_files(out, files))
