"""The page on which a person accepts or rejects templates: every candidate of a run with its verdict, its nearest
templates and a rendered example. One file, made like the report; its script writes the lines of a decisions file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paft_ray.config import Config
from paft_ray.generators.candidates import recorded
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.similarity import Shingles, shingles, similarity
from paft_ray.prompts.template import PromptTemplate, TemplateError
from paft_ray.report.format import percent
from paft_ray.report.quality import num_accepted, quality_sentences
from paft_ray.report.templates import render_page
from paft_ray.storage.artifacts import DECISIONS, PROMPT_SET, RAW_ANSWERS, ROWS, stage_manifest
from paft_ray.storage.manifests import SYNTHESIZE
from paft_ray.storage.quality import QUALITY
from paft_ray.storage.store import Store
from paft_ray.tasks.readers import examples_from_table

PAGE = "report/review.html"
"""Where the page of a run is."""
_NUM_NEIGHBORS = 3
_LONGEST_VALUE = 400  # characters of a field's value in a rendered example
_ORIGINS = ("strategy", "group", "frame")
_KEPT = {"train": "trains", "held_out": "held out"}


@dataclass(frozen=True, kw_only=True)
class Neighbor:
    """A template of the prompt set that is close to a candidate."""

    similarity: float
    verdict: str
    template: PromptTemplate


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A template with everything that a person needs to decide on it."""

    template: PromptTemplate | None
    """None: one of a file that was rejected before, whose text no file of the run holds."""
    row: str
    """What its line of the decisions file holds besides the decision, as JSON in ASCII."""
    verdict: str
    """`trains`, `held out` or `rejected`."""
    reason: str | None
    """Why it was rejected."""
    origin: str
    score: float | None
    """Of the judge, where one decided on it (log-odds in nats)."""
    neighbors: tuple[Neighbor, ...]
    example: str | None
    """Rendered with the first training row; None where there is none, or where it cannot be rendered."""
    decision: str
    """accept, reject, or empty: what was decided before."""


def review_page(run: Store, config: Config) -> str:
    """The HTML text of the page. Raises `UserError` where stage synthesize is not finished."""
    prompts, raw = PROMPT_SET.read(run), RAW_ANSWERS.read(run)
    decisions = {row["id"]: row for row in DECISIONS.read(run)} if run.exists(DECISIONS.path) else {}
    quality = QUALITY.read(run) if run.exists(QUALITY.path) else None
    scores = {each.id: each.score for each in quality.candidates} if quality else {}
    found = candidates(prompts, raw, decisions, _first_row(run), scores)
    return render_page(
        "review.html.j2",
        config,
        script="review.js",
        filters={"percent": percent},
        title=run.name,
        subject="templates to accept or reject",
        candidates=found,
        notes=quality_sentences(quality, num_accepted=num_accepted(stage_manifest(run, SYNTHESIZE))),
        verdicts=list(dict.fromkeys(candidate.verdict for candidate in found)),
        versions={},
    )


def candidates(
    prompts: PromptSet,
    raw: Sequence[Mapping[str, Any]],
    decisions: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, str] | None,
    scores: Mapping[str, float | None] = {},
) -> list[Candidate]:
    """Templates that train, held-out ones, rejected ones, and what else was decided on, each once.

    `raw`: rows of raw.jsonl; `decisions`: id -> line of the decisions file that the run was made with; `values`: fields
    of the row that examples show; `scores`: id -> the judge's.
    """
    known = [(entry, shingles(entry.template)) for entry in prompts.entries]
    listed: list[tuple[Entry, str | None]]
    listed = [(entry, None) for split in _KEPT for entry in prompts.split(split).entries]  # type: ignore[arg-type]
    listed += [(entry, row["rejected"]) for entry, row in zip(recorded(raw), raw, strict=True) if entry]
    listed += [(Entry.of_file(template, "decisions"), "rejected") for template in _held(decisions.values())]
    kept = {entry.template.id for entry, _ in known}
    first: dict[str, Candidate] = {}
    for entry, reason in listed:
        name = entry.template.id
        if name not in first:
            decided = str(decisions.get(name, {}).get("decision", ""))
            verdict = _KEPT[entry.split] if name in kept else "rejected"
            first[name] = _candidate(entry, verdict, reason or "not selected", known, values, decided, scores.get(name))
    without = [_without_text(row) for name, row in decisions.items() if name not in first]
    return [*first.values(), *without]


def _candidate(
    entry: Entry,
    verdict: str,
    reason: str,
    known: Sequence[tuple[Entry, Shingles]],
    values: Mapping[str, str] | None,
    decision: str,
    score: float | None,
) -> Candidate:
    template = entry.template
    held = {"id": template.id, "text": template.text}
    held |= {} if template.system is None else {"system": template.system}
    held |= {"frame": entry.provenance["frame"]} if entry.provenance.get("frame") else {}
    return Candidate(
        template=template,
        row=_ascii(held),
        verdict=verdict,
        reason=reason if verdict == "rejected" else None,
        origin=_origin(entry.provenance),
        score=score,
        neighbors=_neighbors(template, known),
        example=_example(template, values) if values is not None else None,
        decision=decision,
    )


def _without_text(row: Mapping[str, Any]) -> Candidate:
    return Candidate(
        template=None,
        row=_ascii({"id": row["id"]}),
        verdict="rejected",
        reason="decided before",
        origin="a file of templates",
        score=None,
        neighbors=(),
        example=None,
        decision=str(row["decision"]),
    )


def _held(decisions: Iterable[Mapping[str, Any]]) -> list[PromptTemplate]:
    return [
        PromptTemplate(text=row["text"], system=row.get("system"), frame=row.get("frame"))
        for row in decisions
        if row.get("text")
    ]


def _neighbors(template: PromptTemplate, known: Sequence[tuple[Entry, Shingles]]) -> tuple[Neighbor, ...]:
    """The nearest other templates of the prompt set, the closest first."""
    own = shingles(template)
    others = (
        Neighbor(similarity=similarity(own, found), verdict=_KEPT[entry.split], template=entry.template)
        for entry, found in known
        if entry.template.id != template.id
    )
    nearest = sorted(others, key=lambda neighbor: (-neighbor.similarity, neighbor.template.id))[:_NUM_NEIGHBORS]
    return tuple(neighbor for neighbor in nearest if neighbor.similarity > 0)


def _origin(provenance: Mapping[str, Any]) -> str:
    """Who wrote it, and how it was asked for."""
    axes = provenance.get("axes") or {}
    details = [str(provenance[name]).replace("_", "-") for name in _ORIGINS if provenance.get(name)]
    details += [f"{name}: {value}" for name, value in axes.items()]
    return ", ".join([str(provenance.get("source", "unknown")), *details])


def _example(template: PromptTemplate, values: Mapping[str, str]) -> str | None:
    try:
        text = template.render(values)
    except TemplateError:
        return None
    return f"{template.system}\n\n{text}" if template.system else text


def _first_row(run: Store) -> dict[str, str] | None:
    """The fields of the first training row, long values truncated; None where stage prepare has not run."""
    if not ROWS["train"].is_made(run):
        return None
    rows = examples_from_table(ROWS["train"].read(run).slice(0, 1))
    return {name: _truncated(value) for name, value in rows[0].fields.items()} if rows else None


def _truncated(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else value[:_LONGEST_VALUE] + "…"


def _ascii(row: Mapping[str, str]) -> str:
    """JSON without a character that a page would write out: all of it is printable ASCII."""
    return json.dumps(row).replace("\x7f", "\\u007f")
