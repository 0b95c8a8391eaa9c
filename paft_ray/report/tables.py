"""The tables of a report: the accuracy of every template, the worst templates with failing examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paft_ray.metrics import ArmOutcomes, Measure
from paft_ray.prompts.template import PromptTemplate
from paft_ray.report.answers import value_column
from paft_ray.report.inputs import History, Measured
from paft_ray.storage.stage_cache import Manifest

_LONGEST = 200  # characters of a generated text that are shown


@dataclass(frozen=True, kw_only=True)
class TemplateRow:
    """One held-out template."""

    number: int
    """From 1, worst for arm `sft` first; the same number in plot and table."""
    template: PromptTemplate
    accuracy: Mapping[str, float]
    """Arm -> accuracy by the headline measure, averaged over seeds."""
    knowledge: Mapping[str, float] | None = None
    """The same by knowledge, of the arms of which it is measured; None where it is not, or is the headline."""
    group: str | None = None
    """Group of held-out templates."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What an arm answered."""

    text: str
    """What was parsed, else what was said; empty: nothing."""
    parsed: bool


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A wrong answer."""

    fields: Mapping[str, str]
    answer: str
    given: Given


@dataclass(frozen=True, kw_only=True)
class WorstTemplate:
    """A template on which an arm did badly, with some wrong answers."""

    row: TemplateRow
    accuracy: float
    failures: tuple[Failure, ...]
    num_failures: int
    """All wrong answers, of the arm's first seed."""


def template_rows(measured: Measured, by_measure: Mapping[Measure, Mapping[str, ArmOutcomes]]) -> list[TemplateRow]:
    """Every measured template with its accuracy per arm, lowest accuracy of `sft` (else of the first arm) first."""
    headline, *others = by_measure
    found = {
        measure: {name: arm.by_template for name, arm in by_measure[measure].items()}
        for measure in (headline, *(measure for measure in others if measure == "knowledge"))
    }
    accuracy, knowledge, groups = found.pop(headline), found.get("knowledge"), measured.groups
    sorting = accuracy.get("sft", next(iter(accuracy.values())))
    texts = {template.id: template for template in measured.templates.templates}
    ids = next(iter(by_measure[headline].values())).template_ids
    return [
        TemplateRow(
            number=number,
            template=texts.get(ids[t], PromptTemplate(text=f"(template {ids[t]} is not in the prompt set)")),
            accuracy={name: float(values[t]) for name, values in accuracy.items()},
            knowledge=None if knowledge is None else {name: float(values[t]) for name, values in knowledge.items()},
            group=groups.get(ids[t]),
        )
        for number, t in enumerate(np.argsort(sorting, kind="stable"), start=1)
    ]


def worst_templates(
    measured: Measured, rows: Sequence[TemplateRow], arm: str, *, num_templates: int = 3, num_failures: int = 4
) -> list[WorstTemplate]:
    """The templates with the arm's lowest accuracies, each with wrong answers of the arm's first seed, those first
    whose right label is the least probable."""
    wanted = sorted(rows, key=lambda row: row.accuracy[arm])[:num_templates]
    wrong = _wrong_rows(measured, arm)
    found = []
    for row in wanted:
        mistakes = wrong.get(row.template.id, [])
        shown = tuple(_failure(mistake, measured) for mistake in mistakes[:num_failures])
        found.append(WorstTemplate(row=row, accuracy=row.accuracy[arm], failures=shown, num_failures=len(mistakes)))
    return found


def _wrong_rows(measured: Measured, arm: str) -> dict[str, list[dict[str, Any]]]:
    """Template id -> outcomes of the arm's lowest seed that score less than 1, lowest score first, then lowest
    log-probability of the right answer."""
    rows = measured.outcomes.filter(pc.field("arm") == arm)
    rows = rows.filter(pc.equal(rows["seed"], pc.min(rows["seed"])))
    values = scores(rows, measured.headline)
    wrong: dict[str, list[dict[str, Any]]] = {}
    for outcome in rows.append_column("score", values).filter(pc.less(values, 1)).to_pylist():
        wrong.setdefault(outcome["template_id"], []).append(outcome)
    for outcomes in wrong.values():
        outcomes.sort(key=lambda o: (o["score"], o["logprob"] if o["logprob"] is not None else 0.0, o["example_id"]))
    return wrong


def scores(rows: pa.Table, measure: Measure) -> pa.ChunkedArray:
    """Value of each row by a measure; null where the row was not asked."""
    return rows[value_column(measure)].cast("float64")


def given(outcome: Mapping[str, Any], measure: Measure, text: str = "") -> Given:
    """What an outcome holds of the answer that a measure judges. `text`: what was generated, for a task without
    labels, whose outcomes do not hold it."""
    if measure == "knowledge":
        return Given(text=outcome["predicted"] or "", parsed=outcome["parsed"])
    named = outcome["named"]
    said = outcome["said"] or text[:_LONGEST]
    return Given(text=said if named is None else named, parsed=named is not None)


def text_of(outcome: Mapping[str, Any], texts: pa.Table | None) -> str:
    """What was generated; empty where it is not at hand."""
    if texts is None:
        return ""
    for name in ("example_id", "template_id", "arm", "seed"):
        texts = texts.filter(pc.field(name) == outcome[name])
    return str(texts["text"][0].as_py()) if texts.num_rows else ""


def _failure(outcome: dict[str, Any], measured: Measured) -> Failure:
    example = measured.examples.get(outcome["example_id"])
    fields = example.fields if example else {"id": outcome["example_id"]}
    return Failure(
        fields=fields,
        answer=outcome["answer"],
        given=given(outcome, measured.headline, text_of(outcome, measured.texts)),
    )


def cut_note(measured: Measured, history: History, limit: int) -> str | None:
    """How many prompts lost text to keep to the longest prompt (`limit`, tokens); None where none did."""
    tested, trained = (
        measured.manifest.get("num_truncated", 0),
        sum(model.truncated_rows for model in history.trainings),
    )
    if not tested and not trained:
        return None
    return (
        f"Fields were truncated to model.max_prompt_tokens={limit}: in {tested} of the test prompts of all arms "
        f"and in {trained} training rows."
    )


def provenance_counts(measured: Measured) -> dict[str, dict[str, int]]:
    """Source of templates -> number per split."""
    counts: dict[str, dict[str, int]] = {}
    for entry in measured.templates.entries:
        row = counts.setdefault(str(entry.provenance.get("source", "unknown")), {"train": 0, "held_out": 0})
        row[entry.split] += 1
    return dict(sorted(counts.items()))


def stage_rows(
    manifests: Mapping[str, Manifest], timings_s: Mapping[str, float]
) -> list[tuple[str, float, int | None]]:
    """(stage, seconds, engine starts or None) in the order of the pipeline."""
    return [(stage, seconds, manifests.get(stage, {}).get("engine_starts")) for stage, seconds in timings_s.items()]
