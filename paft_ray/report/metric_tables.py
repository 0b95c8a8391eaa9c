"""The tables of figures on the page: which columns, how they are written, what they sort by. A column without any
figure is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from paft_ray.report.format import percent, points, probability, span

Values = Mapping[str, Any]
"""One arm, or one difference, of results.json."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure."""

    text: str
    value: float | None
    """What the column is sorted by; None: missing, sorted last."""


@dataclass(frozen=True, kw_only=True)
class FigureTable:
    """Rows of figures under a caption."""

    name: str
    """Id in the page."""
    caption: str
    head: tuple[str, ...]
    """Of the columns after the row's name."""
    rows: Mapping[str, tuple[Cell, ...]]
    """Name of the row -> one cell per column."""


Column = tuple[str, Callable[[Values], Cell]]


def accuracy_table(arms: Mapping[str, Values], *, confidence: float, threshold: float, where: str) -> FigureTable:
    """Mean, interval and spread of each arm."""
    columns = [
        ("mean", _percent("mean")),
        (f"{100 * confidence:g} % interval", _range(percent)),
        ("std", _percent("std")),
        ("std, noise removed", _percent("std_noise_corrected")),
        (f"above {100 * threshold:g} %", _percent("share_above")),
    ]
    caption = (
        f"Accuracy in percent over {where}; above {100 * threshold:g} %: fraction of templates with a higher accuracy."
    )
    return _table("accuracy", caption, columns, arms)


def spread_table(arms: Mapping[str, Values]) -> FigureTable:
    """The distribution of accuracy over templates, from worst to best."""
    columns = [
        ("worst", _percent("worst")),
        ("worst, shrunken", _percent("worst_shrunken")),
        *_quantiles(arms),
        ("best", _percent("best")),
    ]
    shrunken = (
        " Shrunken: the worst template without the luck of being the lowest of many."
        if any(arm.get("worst_shrunken") is not None for arm in arms.values())
        else ""
    )
    return _table("spread", f"From the worst template to the best, accuracy in percent.{shrunken}", columns, arms)


def answer_table(arms: Mapping[str, Values]) -> FigureTable:
    """How the arms answer."""
    columns = [
        ("consistency", _percent("consistency")),
        ("sensitivity", _percent("sensitivity")),
        ("not parsed", _percent("parse_failure_rate")),
        ("tokens per answer", _number("tokens_per_answer", "{:.1f}")),
        ("seconds per answer", _number("seconds_per_answer", "{:.2f}")),
        ("seeds", _number("num_seeds", "{}")),
    ]
    said = ["consistency is the fraction of template pairs that give the same answer"]
    if any(arm.get("sensitivity") is not None for arm in arms.values()):
        said.append(
            "sensitivity (PromptSensiScore, arXiv 2410.12405) the fraction of template pairs of which only one is right"
        )
    if any(arm.get("tokens_per_answer") is not None for arm in arms.values()):
        said.append("length and time are those of unconstrained generation")
    return _table("answers", f"How the arms answer, shares in percent: {'; '.join(said)}.", columns, arms)


def estimated_table(arms: Mapping[str, Values]) -> FigureTable | None:
    """Figures estimated from a part of the (template, example) cells; None where evaluation was not budgeted."""
    found = {name: arm["estimated"] for name, arm in arms.items() if arm.get("estimated")}
    if not found:
        return None
    budget = ", ".join(sorted({f"{100 * arm['budget']:g} %" for arm in found.values()}))
    caption = (
        f"Evaluation was budgeted: {budget} of all (template, example) cells were answered. "
        "Estimates for the full grid by an item-response model, accuracy in percent over templates."
    )
    return _table(
        "estimated", caption, [("mean", _percent("mean")), ("interval", _range(percent)), *_quantiles(found)], found
    )


def difference_table(
    differences: Mapping[str, Values], *, confidence: float, num_bootstrap: int, seeds: bool
) -> FigureTable:
    """Differences of the mean, by name of the row."""
    columns = [
        ("percentage points", _points("mean")),
        (f"{100 * confidence:g} % interval", _range(points)),
        ("p", _number("p_value", probability)),
        ("p, corrected", _number("p_adjusted", probability)),
        ("detectable", _percent("detectable")),
        ("decisive", _decisive),
        ("seeds", _number("num_seeds", "{}")),
    ]
    caption = (
        "Differences of the mean in percentage points: paired bootstrap over templates and "
        f"examples{' and seeds' if seeds else ''} ({num_bootstrap} draws)."
    )
    if any(gap.get("p_adjusted") is not None for gap in differences.values()):
        caption += f" p is corrected for {len(differences)} comparison{'s' * (len(differences) > 1)}"
        caption += "; detectable is the smallest true difference that would likely have come out."
    return _table("differences", caption, columns, differences)


def _table(name: str, caption: str, columns: Iterable[Column], values: Mapping[str, Values]) -> FigureTable:
    built = [(head, [cell(row) for row in values.values()]) for head, cell in columns]
    kept = [(head, cells) for head, cells in built if any(cell.text != "–" for cell in cells)]
    rows = {row: tuple(cells[number] for _, cells in kept) for number, row in enumerate(values)}
    return FigureTable(name=name, caption=caption, head=tuple(head for head, _ in kept), rows=rows)


def _quantiles(arms: Mapping[str, Values]) -> list[Column]:
    """A column for each quantile that an arm has, in their order."""
    levels = sorted({level for arm in arms.values() for level in arm.get("quantiles") or {}}, key=float)
    return [(f"{100 * float(level):g} %" if level != "0.5" else "median", _quantile(level)) for level in levels]


def _percent(key: str) -> Callable[[Values], Cell]:
    return lambda row: Cell(text=percent(row.get(key)), value=row.get(key))


def _points(key: str) -> Callable[[Values], Cell]:
    return lambda row: Cell(text=points(row.get(key)), value=row.get(key))


def _quantile(level: str) -> Callable[[Values], Cell]:
    def cell(row: Values) -> Cell:
        value = (row.get("quantiles") or {}).get(level)
        return Cell(text=percent(value), value=value)

    return cell


def _number(key: str, form: str | Callable[[float | None], str]) -> Callable[[Values], Cell]:
    def cell(row: Values) -> Cell:
        value = row.get(key)
        return Cell(
            text="–" if value is None else form.format(value) if isinstance(form, str) else form(value), value=value
        )

    return cell


def _range(form: Callable[[float | None], str]) -> Callable[[Values], Cell]:
    """Sorted by the lower end."""

    def cell(row: Values) -> Cell:
        low, high = row.get("low"), row.get("high")
        return Cell(text=span(low, high, form), value=low)

    return cell


def _decisive(row: Values) -> Cell:
    value = row.get("decisive")
    return Cell(text="–" if value is None else "yes" if value else "no", value=None if value is None else float(value))
