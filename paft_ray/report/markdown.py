"""The report as Markdown, for terminals, code hosts and model cards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from paft_ray.config import Config
from paft_ray.report.format import duration, percent, points
from paft_ray.report.sources import Measured
from paft_ray.report.tables import Results, TemplateRow, provenance_counts, worst_templates

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", **{character: f"\\{character}" for character in "\\`*_|[]"}})


def render_markdown(
    *, title: str, config: Config, measured: Measured, results: Results, rows: Sequence[TemplateRow], rejected: Mapping[str, int], cut: str | None = None
) -> str:
    """The Markdown text. `rejected`: candidates by reason; `cut`: sentence about shortened prompts."""
    values = results.values
    kind = "held-out" if measured.held_out else "given"
    parts = [
        f"# {title}: robustness to prompt wording",
        f"**{values['verdict']}.**",
        f"Task {config.task}, model {config.model.id}; {len(rows)} {kind} templates x {next(iter(values['arms'].values()))['num_examples']} test examples.",
        "## Arms",
        _arms(results, config.report.threshold),
    ]
    if cut:
        parts.append(cut)
    if results.refused:
        parts.append(f"Standard deviation, worst template and intervals are not given: {results.refused}.")
    if results.differences:
        gaps = [(f"{g.first} - {g.second}", points(g.mean), _interval(g.low, g.high)) for g in results.differences.values()]
        parts.append(_table(("difference", "points", f"{100 * config.report.confidence:g} % interval"), gaps))
    parts += [f"## Accuracy per {kind} template, %", _matrix(results, rows), *_worst(results, measured, rows), "## Prompt set"]
    parts.append(_table(("source", "training", "held out"), [(name, str(n["train"]), str(n["held_out"])) for name, n in provenance_counts(measured).items()]))
    if rejected:
        parts.append(_table(("rejected because", "candidates"), [(reason, str(number)) for reason, number in rejected.items()]))
    parts += ["## Cost", _cost(results)]
    return "\n\n".join(parts) + "\n"


def _arms(results: Results, threshold: float) -> str:
    head = ("arm", "mean", "std", "std, noise taken out", "worst", "best", f"above {100 * threshold:g} %", "consistency", "not parsed", "seeds")
    keys = ("mean", "std", "std_noise_corrected", "worst", "best", "share_above", "consistency")
    body = [
        (arm, *(percent(row[key]) for key in keys), percent(results.parse_failure_rates[arm]), str(row["num_seeds"]))
        for arm, row in results.values["arms"].items()
    ]
    return _table(head, body)


def _matrix(results: Results, rows: Sequence[TemplateRow]) -> str:
    arms = list(results.arms)
    body = [(str(row.number), *(percent(row.accuracy[arm]) for arm in arms), _shown(row)) for row in rows]
    return _table(("no.", *arms, "template"), body)


def _worst(results: Results, measured: Measured, rows: Sequence[TemplateRow]) -> list[str]:
    arm = list(results.arms)[-1]
    parts = [f"## Worst templates of {arm}"]
    for worst in worst_templates(measured, rows, arm):
        parts.append(f"### Template {worst.row.number}: {percent(worst.accuracy)} %")
        mistakes = [
            (" / ".join(failure.fields.values()), failure.answer, "(not parsed)" if failure.predicted is None else failure.predicted)
            for failure in worst.failures
        ]
        parts.append(_table(("example", "right answer", "given"), mistakes) if mistakes else "No wrong answer.")
    return parts


def _cost(results: Results) -> str:
    values = results.values
    body = [(stage, duration(seconds)) for stage, seconds in values["timings_s"].items()]
    memory = "" if values["peak_memory_gib"] is None else f", peak memory of the largest training worker {values['peak_memory_gib']:.1f} GiB"
    return _table(("stage", "time"), body) + f"\n\n{values['engine_starts']} engine starts{memory}."


def _shown(row: TemplateRow) -> str:
    return f"[system] {row.template.system} / {row.template.text}" if row.template.system else row.template.text


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None else f"{points(low)} to {points(high)}"


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def cell(text: str) -> str:
    """Outside text as one cell: no line break, no column border, no markup."""
    return " ↵ ".join(text.translate(_ESCAPES).splitlines())
