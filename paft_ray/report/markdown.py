"""The report as Markdown, for terminals, code hosts and model cards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from paft_ray.config import Config
from paft_ray.metrics import POWER
from paft_ray.report.format import duration, percent, points, probability, span
from paft_ray.report.inputs import Measured
from paft_ray.report.tables import Results, TemplateRow, provenance_counts, worst_templates
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
    truncation: str | None = None,
) -> str:
    """The Markdown text. `rejected`: candidates by reason; `truncation`: sentence about truncated prompts."""
    values = results.values
    kind = "held-out" if measured.held_out else "given"
    parts = [
        f"# {cell(title)}: robustness to the prompt template",
        f"**{values['verdict']}.**",
        f"Task {cell(config.task)}, model {cell(config.model.id)}; {len(rows)} {kind} templates x "
        f"{next(iter(values['arms'].values()))['num_examples']} test examples.",
        "## Arms",
        *_arms(results, config),
    ]
    if truncation:
        parts.append(truncation)
    if results.insufficient_data_reason:
        reason = results.insufficient_data_reason
        parts.append(f"Standard deviation, quantiles, worst template and sensitivity are not given: {reason}.")
    if results.no_intervals:
        parts.append(f"Intervals are not given: {results.no_intervals}.")
    if results.differences:
        parts += ["## Differences", *_differences(results, config)]
    parts += [
        f"## Accuracy per {kind} template, %",
        _matrix(results, rows),
        *_worst(results, measured, rows),
        "## Prompt set",
    ]
    parts.append(
        _table(
            ("source", "training", "held out"),
            [(name, str(n["train"]), str(n["held_out"])) for name, n in provenance_counts(measured).items()],
        )
    )
    if rejected:
        parts.append(
            _table(("rejected because", "candidates"), [(reason, str(number)) for reason, number in rejected.items()])
        )
    parts += ["## Cost", _cost(results)]
    return "\n\n".join(parts) + "\n"


def _arms(results: Results, config: Config) -> list[str]:
    """Accuracy over templates, its quantiles, and how the arms answer: three narrow tables with what their columns
    mean."""
    arms = results.values["arms"]
    level, threshold = f"{100 * config.report.confidence:g} %", f"above {100 * config.report.threshold:g} %"
    head = (
        "arm",
        "mean",
        f"{level} interval",
        "std",
        "std, noise removed",
        "worst",
        "worst, shrunken",
        "best",
        threshold,
    )
    keys = ("std", "std_noise_corrected", "worst", "worst_shrunken", "best", "share_above")
    accuracy = [
        (arm, percent(row["mean"]), span(row["low"], row["high"], percent), *(percent(row[key]) for key in keys))
        for arm, row in arms.items()
    ]
    found = {arm: row["quantiles"] or row["estimated"]["quantiles"] or {} for arm, row in arms.items()}
    levels = list(next(iter(found.values())))
    quantiles = [(arm, *(percent(row[level]) for level in levels)) for arm, row in found.items()]
    answers = [
        (
            arm,
            *(percent(row[key]) for key in ("consistency", "sensitivity", "parse_failure_rate")),
            *_speed(row),
            str(row["num_seeds"]),
        )
        for arm, row in arms.items()
    ]
    parts = [
        "Accuracy over templates, %. Worst, shrunken: the worst template with most of its bad luck removed.",
        _table(head, accuracy),
    ]
    if levels and not results.insufficient_data_reason:
        parts += [
            "Quantiles over templates, %.",
            _table(("arm", *(f"{100 * float(level):g} %" for level in levels)), quantiles),
        ]
    return [
        *parts,
        "How the arms answer. Consistency: template pairs with the same answer, %; sensitivity: PromptSensiScore "
        "(arXiv 2410.12405), template pairs of which only one is right, %; tokens and seconds per answer under "
        "unconstrained generation.",
        _table(("arm", "consistency", "sensitivity", "not parsed", "tokens", "seconds", "seeds"), answers),
    ]


def _speed(row: Mapping[str, float | None]) -> list[str]:
    return ["–" if row[key] is None else f"{row[key]:.1f}" for key in ("tokens_per_answer", "seconds_per_answer")]


def _differences(results: Results, config: Config) -> list[str]:
    gaps = [
        (
            f"{g.first} - {g.second}",
            points(g.mean),
            span(g.low, g.high, points),
            probability(g.p_adjusted),
            percent(g.detectable),
            "yes" if g.decisive else "no",
        )
        for g in results.differences.values()
    ]
    return [
        f"In percentage points. p: bootstrap, corrected for {len(gaps)} comparison{'s' * (len(gaps) > 1)} (Holm); "
        f"detectable: the smallest true difference that would come out decisive with a chance of {100 * POWER:g} %, "
        "before that correction.",
        _table(
            (
                "difference",
                "percentage points",
                f"{100 * config.report.confidence:g} % interval",
                "p",
                "detectable",
                "decisive",
            ),
            gaps,
        ),
    ]


def _matrix(results: Results, rows: Sequence[TemplateRow]) -> str:
    arms = list(results.arms)
    body = [(str(row.number), *(percent(row.accuracy[arm]) for arm in arms), _shown(row)) for row in rows]
    return _table(("no.", *arms, "template"), body)


def _worst(results: Results, measured: Measured, rows: Sequence[TemplateRow]) -> list[str]:
    arm = list(results.arms)[-1]
    parts = [f"## Worst templates of {cell(arm)}"]
    for worst in worst_templates(measured, rows, arm):
        parts.append(f"### Template {worst.row.number}: {percent(worst.accuracy)} %")
        mistakes = [
            (
                " / ".join(failure.fields.values()),
                failure.answer,
                "(not parsed)" if failure.predicted is None else failure.predicted,
            )
            for failure in worst.failures
        ]
        parts.append(_table(("example", "right answer", "given"), mistakes) if mistakes else "No wrong answer.")
    return parts


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
