"""All tables of figures of a report, alike in page and Markdown file, and the sentences under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paft_ray.config import ReportConfig
from paft_ray.metrics.answer_cost import MIN_RIGHT
from paft_ray.report import metric_tables
from paft_ray.report.format import percent
from paft_ray.report.metric_tables import FigureTable
from paft_ray.report.results import Results
from paft_ray.report.tables import TemplateRow


@dataclass(frozen=True, kw_only=True)
class FigureTables:
    """Tables by the section they stand in; a section without figures is empty."""

    arms: tuple[FigureTable, ...]
    differences: tuple[FigureTable, ...]
    groups: tuple[FigureTable, ...]
    calibration: tuple[FigureTable, ...]
    notes: tuple[str, ...]
    """Why figures are missing, and what they hide."""


@dataclass(frozen=True, kw_only=True)
class CollapsedTemplates:
    """Templates under which an arm gives one answer, or none, on nearly all rows of some seed."""

    arm: str
    by_answer: Mapping[str | None, tuple[int, ...]]
    """Answer (None: nothing that could be parsed) -> numbers of the templates."""


def figure_tables(results: Results, config: ReportConfig, *, where: str) -> FigureTables:
    """The tables of results.json. `where`: the templates, in words."""
    values, level = results.values, config.confidence
    arms, headline = values["arms"], values["headline"]
    gaps = {f"{gap['first']} − {gap['second']}": gap for gap in values["differences"].values()}
    return FigureTables(
        arms=_kept(
            metric_tables.measures_table(arms, confidence=level, where=where),
            metric_tables.estimated_table(arms),
            metric_tables.spread_table(arms, confidence=level, threshold=config.threshold, headline=headline),
            metric_tables.answer_table(arms, headline=headline),
        ),
        differences=_kept(
            metric_tables.difference_table(gaps, confidence=level, headline=headline),
            metric_tables.spread_difference_table(gaps, confidence=level, headline=headline),
        ),
        groups=_kept(
            metric_tables.group_table(values["groups"], confidence=level, headline=headline),
            metric_tables.group_difference_table(values["groups"], confidence=level, headline=headline),
        ),
        calibration=_kept(
            metric_tables.calibration_table(values["most_probable"], values["calibration"], confidence=level)
        ),
        notes=(*_refusals(results), *_label_notes(arms), *_speed_notes(arms)),
    )


def collapsed_templates(values: Mapping[str, Any], rows: Sequence[TemplateRow]) -> list[CollapsedTemplates]:
    """Of every arm that has some, by the headline measure."""
    numbers = {row.template.id: row.number for row in rows}
    found = []
    for arm, row in values["arms"].items():
        by_answer: dict[str | None, set[int]] = {}
        for collapse in row["collapsed"]:
            if collapse["template_id"] in numbers:
                by_answer.setdefault(collapse["answer"], set()).add(numbers[collapse["template_id"]])
        if by_answer:
            known = {answer: tuple(sorted(places)) for answer, places in by_answer.items()}
            found.append(CollapsedTemplates(arm=arm, by_answer=known))
    return found


def _kept(*tables: FigureTable | None) -> tuple[FigureTable, ...]:
    return tuple(table for table in tables if table and table.head and table.rows)


def _refusals(results: Results) -> list[str]:
    sentences = []
    if results.insufficient_data_reason:
        sentences.append(
            "Figures of spread (standard deviation, quantiles, worst template) are not given: "
            f"{results.insufficient_data_reason}."
        )
    if results.no_intervals:
        sentences.append(f"Intervals are not given: {results.no_intervals}.")
    return sentences


def _label_notes(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What ending an answer at a label hides: how often one ended so, and in how many sampled answers it mattered."""
    rates = {arm: row["label_ended_rate"] for arm, row in arms.items()}
    if not any(rates.values()):
        return []
    ended = ", ".join(f"{arm} {percent(rate)} %" for arm, rate in rates.items())
    sentences = [
        "An answer ends at a token that is a label, and what would have stood behind it is not seen: strict is an "
        "upper bound there, and a longer word counts as the label. Answers that ended so at their first token: "
        f"{ended}."
    ]
    sampled = {arm: row["speed"] for arm, row in arms.items() if row["speed"]["strict_misjudged"] is not None}
    for name in ("strict", "behavior") if sampled else ():
        counts = ", ".join(f"{arm} {row[f'{name}_misjudged']} of {row['num_asked']}" for arm, row in sampled.items())
        sentences.append(f"Sampled answers, generated to their end, whose {name} such an end would change: {counts}.")
    return sentences


def _speed_notes(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Which arms have no length and time of an answer, and why."""
    sentences, speed = [], {arm: row["speed"] for arm, row in arms.items() if row["speed"]["reason"]}
    if unmeasured := [arm for arm, row in speed.items() if row["num_asked"] == 0]:
        sentences.append(f"Tokens and time per right answer were not measured for {', '.join(unmeasured)}.")
    few = [f"{arm} ({row['num_rows']} of {row['num_asked']})" for arm, row in speed.items() if row["num_asked"]]
    if few:
        sentences.append(
            "Tokens and time per right answer are not given where fewer than "
            f"{MIN_RIGHT} of the sampled answers of a seed are right: {', '.join(few)}."
        )
    return sentences
