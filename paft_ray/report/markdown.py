"""The report as Markdown, for terminals, code hosts and model cards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paft_ray.config import Config
from paft_ray.report.axes import WorstCase
from paft_ray.report.axes_report import AxesReport
from paft_ray.report.figure_tables import CollapsedTemplates, collapsed_templates, figure_tables
from paft_ray.report.format import duration, percent
from paft_ray.report.inputs import Measured
from paft_ray.report.metric_tables import FigureTable
from paft_ray.report.results import Results
from paft_ray.report.tables import Given, TemplateRow, provenance_counts, worst_templates
from paft_ray.sanitize import visible

_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", **{character: f"\\{character}" for character in "\\`*_|[]"}}
)


def render_markdown(
    *,
    title: str,
    config: Config,
    measured: Measured,
    results: Results,
    rows: Sequence[TemplateRow],
    rejected: Mapping[str, int],
    notes: Sequence[str] = (),
    axes: AxesReport | None = None,
    truncation: str | None = None,
) -> str:
    """The Markdown text. `rejected`: candidates by reason; `notes`: sentences about the prompt set; `truncation`:
    sentence about truncated prompts."""
    values = results.values
    kind = "held-out" if measured.held_out else "given"
    tables = figure_tables(results, config.report, where=f"{len(rows)} {kind} templates")
    parts = [
        f"# {cell(title)}: robustness to the prompt template",
        f"**{cell(values['verdict'])}.**",
        "\n".join(f"- {cell(sentence)}" for sentence in values["findings"]),
        *_checks(values.get("checks", ())),
        f"Task {cell(config.task)}, {_models(measured, config)}; {len(rows)} {kind} templates x "
        f"{next(iter(values['arms'].values()))['num_examples']} test examples.",
        "## Arms",
        *_tables(tables.arms),
        *map(cell, tables.notes),
        *_collapsed(collapsed_templates(values, rows)),
    ]
    if truncation:
        parts.append(truncation)
    for head, section in (
        ("Differences", tables.differences),
        ("Groups of templates", tables.groups),
        ("Calibration control", tables.calibration),
    ):
        parts += [f"## {head}", *_tables(section)] if section else []
    parts += ["## Axes", *_tables(axes.tables), *_worst_cases(axes.worst)] if axes else []
    parts += [
        f"## Accuracy per {kind} template, %",
        _matrix(results, rows),
        *_knowledge(results, rows),
        *_worst(results, measured, rows),
        "## Prompt set",
    ]
    parts += [*_prompt_set(measured, rejected), *map(cell, notes), "## Cost", _cost(results)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _models(measured: Measured, config: Config) -> str:
    """What was measured, in words."""
    named = "; ".join(f"{cell(arm)}: {cell(what)}" for arm, what in measured.models.items())
    return f"models {named}" if named else f"model {cell(config.model.id)}"


def _checks(made: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was to be reached, by model."""
    body = [("passed" if check["passed"] else "FAILED", check["model"], check["said"]) for check in made]
    return ["## Checks", _table(("check", "model", "found"), body)] if body else []


def _worst_cases(found: Sequence[WorstCase]) -> list[str]:
    """The worst case of every axis and arm, with wrong answers."""
    body = [
        (worst.axis, worst.arm, worst.level, percent(worst.accuracy), asked, right, said)
        for worst in found
        for asked, right, said in (worst.wrong[:1] or [("(no wrong answer)", "", "")])
    ]
    head = ("axis", "arm", "level", "accuracy, %", "asked", "right answer", "given")
    return ["Worst case of each axis, with a wrong answer:", _table(head, body)]


def _prompt_set(measured: Measured, rejected: Mapping[str, int]) -> list[str]:
    sources = [(name, str(n["train"]), str(n["held_out"])) for name, n in provenance_counts(measured).items()]
    parts = [_table(("source", "training", "held out"), sources)]
    if rejected:
        reasons = [(reason, str(number)) for reason, number in rejected.items()]
        parts.append(_table(("rejected because", "candidates"), reasons))
    return parts


def _tables(tables: Sequence[FigureTable]) -> list[str]:
    """Each table under its caption."""
    parts = []
    for table in tables:
        body = [(name, *(figure.text for figure in cells)) for name, cells in table.rows.items()]
        parts += [cell(table.caption), _table((table.first, *table.head), body)]
    return parts


def _collapsed(found: Sequence[CollapsedTemplates]) -> list[str]:
    lines = []
    for arm in found:
        answers = [
            f"{'nothing that could be judged' if answer is None else cell(answer)} under {', '.join(map(str, numbers))}"
            for answer, numbers in arm.by_answer.items()
        ]
        lines.append(f"- {cell(arm.arm)}: {'; '.join(answers)}")
    head = "Templates under which an arm gives one answer, or none, on over 95 % of the rows (of some seed):"
    return [head, "\n".join(lines)] if lines else []


def _matrix(results: Results, rows: Sequence[TemplateRow]) -> str:
    arms = list(results.arms)
    body = [(str(row.number), *(percent(row.accuracy[arm]) for arm in arms), _shown(row)) for row in rows]
    return _table(("no.", *arms, "template"), body)


def _knowledge(results: Results, rows: Sequence[TemplateRow]) -> list[str]:
    arms = list(results.arms)
    known = [(row.number, row.knowledge) for row in rows if row.knowledge is not None]
    body = [(str(number), *(percent(values.get(arm)) for arm in arms)) for number, values in known]
    return (
        ["The same by knowledge, the answer constrained to the labels:", _table(("no.", *arms), body)] if body else []
    )


def _worst(results: Results, measured: Measured, rows: Sequence[TemplateRow]) -> list[str]:
    arm = list(results.arms)[-1]
    parts = [f"## Worst templates of {cell(arm)}"]
    for worst in worst_templates(measured, rows, arm):
        parts.append(f"### Template {worst.row.number}: {percent(worst.accuracy)} %")
        mistakes = [
            (
                " / ".join(failure.fields.values()),
                failure.answer,
                _given(failure.given),
            )
            for failure in worst.failures
        ]
        parts.append(_table(("example", "right answer", "given"), mistakes) if mistakes else "No wrong answer.")
    return parts


def _given(answer: Given) -> str:
    if answer.parsed:
        return answer.text
    return f"(nothing that could be judged) {answer.text}".rstrip()


def _cost(results: Results) -> str:
    values = results.values
    body = [(stage, duration(seconds)) for stage, seconds in values["timings_s"].items()]
    memory = (
        ""
        if values["peak_memory_gib"] is None
        else f", peak memory of the largest training worker {values['peak_memory_gib']:.1f} GiB"
    )
    return _table(("stage", "time"), body) + f"\n\n{values['engine_starts']} engine starts{memory}."


def _shown(row: TemplateRow) -> str:
    return f"[system] {row.template.system} / {row.template.text}" if row.template.system else row.template.text


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def cell(text: str) -> str:
    """Outside text as one cell: no line break, no column border, no markup, no hidden character."""
    return " ↵ ".join(visible(text.replace("\r\n", "\n")).translate(_ESCAPES).splitlines())
