"""The tables of figures in page and Markdown file: which columns, how they are written, what they sort by. A column
without any figure is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paft_ray.metrics import MIN_TEMPLATES, MIN_TEMPLATES_INTERVAL, POWER
from paft_ray.report.format import number, percent, points, probability, ratio, span, within

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
    first: str
    """Head of the column with the names of the rows."""
    head: tuple[str, ...]
    """Of the columns after it."""
    rows: Mapping[str, tuple[Cell, ...]]
    """Name of the row -> one cell per column."""


Form = Callable[[float | None], str]
Column = tuple[str, Callable[[Values], Cell]]


def measures_table(arms: Mapping[str, Values], *, confidence: float, where: str) -> FigureTable:
    """What the arms say and what they know, side by side."""
    level = f"{100 * confidence:g} % interval"
    columns = [
        ("behavior", figure("measures.behavior.mean", percent)),
        (level, interval("measures.behavior", percent)),
        ("strict", figure("measures.strict.mean", percent)),
        ("knowledge", figure("measures.knowledge.mean", percent)),
        (level, interval("measures.knowledge", percent)),
        ("names a label", figure("named_rate", percent)),
        ("probability on labels", figure("label_mass", percent)),
        ("seeds", figure("num_seeds", number(0))),
    ]
    said = {
        "behavior": "Behavior: the unconstrained answer, parsed leniently. Strict: the same without leniency.",
        "label_ended_rate": "It is an upper bound where a token that is a label ended the answer.",
        "knowledge": "Knowledge: the label that greedy decoding ends in when only labels are allowed.",
        "label_mass": "Probability on labels: that an answer's first token begins one.",
    }
    measures = {name for arm in arms.values() for name in arm["measures"]}
    held = {*measures, *(key for arm in arms.values() for key in said if arm.get(key))}
    told = " ".join(text for key, text in said.items() if key in held)
    return built("accuracy", f"Mean accuracy in percent over {where}. {told}", columns, arms)


def spread_table(arms: Mapping[str, Values], *, confidence: float, threshold: float, headline: str) -> FigureTable:
    """How accuracy differs between templates, by the headline measure."""
    level = f"{100 * confidence:g} % interval"
    columns = [
        ("std", figure("std", percent)),
        (level, interval("intervals.std", percent)),
        ("std, noise removed", figure("std_noise_corrected", percent)),
        ("worst", figure("worst", percent)),
        ("worst, shrunken", figure("worst_shrunken", percent)),
        ("lowest decile", figure("decile", percent)),
        (level, interval("intervals.decile", percent)),
        ("median", _quantile("0.5")),
        (f"above {100 * threshold:g} %", figure("share_above", percent)),
    ]
    said = [f"Spread of {headline} over templates, in percent."]
    if any(arm.get("num_seeds", 1) > 1 for arm in arms.values()):
        said.append("Figures are of each seed's model, then averaged over seeds.")
    if any(arm.get("std_noise_corrected") is not None for arm in arms.values()):
        said.append("Std, noise removed: an estimate of what an endless test set would leave.")
    if any(arm.get("decile") is not None for arm in arms.values()):
        said.append("Lowest decile: about one template in ten is not above it.")
    if any(arm.get("worst_shrunken") is not None for arm in arms.values()):
        said.append("Worst, shrunken: an estimate without the bad luck of being the lowest of many.")
    said.append(f"Above {100 * threshold:g} %: fraction of templates with a higher accuracy.")
    return built("spread", " ".join(said), columns, arms)


def answer_table(arms: Mapping[str, Values], *, headline: str) -> FigureTable:
    """How the arms answer."""
    columns = [
        ("not parsed", figure("parse_failure_rate", percent)),
        ("balanced accuracy", figure("balanced_accuracy", percent)),
        ("consistency", figure("consistency", percent)),
        ("sensitivity", figure("sensitivity", percent)),
        ("tokens per right answer", figure("tokens_per_answer", number(1))),
        ("interval", interval("speed.tokens", number(1))),
        ("seconds per right answer", figure("seconds_per_answer", number(2))),
        ("interval ", interval("speed.seconds", number(2))),
    ]
    said = {
        "parse_failure_rate": "Not parsed: answers in which nothing was found that could be judged.",
        "balanced_accuracy": "Balanced accuracy: the mean over the right answers of the accuracy on their rows.",
        "consistency": "Consistency: template pairs with the same answer.",
        "sensitivity": "Sensitivity (PromptSensiScore, arXiv 2410.12405): template pairs of which only one is right.",
    }
    told = [text for key, text in said.items() if any(arm.get(key) is not None for arm in arms.values())]
    return built("answers", " ".join([f"How the arms answer ({headline}), in percent.", *told]), columns, arms)


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
    columns = [("mean", figure("mean", percent)), ("interval", interval("", percent)), *_quantiles(found)]
    return built("estimated", caption, columns, found)


def difference_table(differences: Mapping[str, Values], *, confidence: float, headline: str) -> FigureTable:
    """Differences of the mean by the headline measure."""
    columns = [
        ("percentage points", figure("mean", points)),
        (f"{100 * confidence:g} % interval", interval("", points)),
        ("p", figure("p_value", probability)),
        ("p, corrected", figure("p_adjusted", probability)),
        ("detectable", figure("detectable", percent)),
        ("decisive", _decisive),
        ("seeds", figure("num_seeds", number(0))),
    ]
    caption = f"Differences of mean {headline} in percentage points, first minus second."
    if any(gap.get("low") is not None and gap.get("num_seeds") == 1 for gap in differences.values()):
        caption += " With one seed interval, p and decisive are for these weights, not for other trainings."
    if any(gap.get("p_adjusted") is not None for gap in differences.values()):
        named = next((name for name, gap in differences.items() if gap.get("is_primary")), None)
        others = sum(gap.get("p_adjusted") is not None for name, gap in differences.items() if name != named)
        apart = f", the primary one apart ({named} was named beforehand)" if named else ""
        corrected = f"corrected for {others} comparison{'s' * (others != 1)}{apart}, after Holm"
        caption += (
            f" p is {corrected if others else 'not corrected: one comparison was named beforehand'}. Detectable: the "
            f"true difference that would have shown {10 * POWER:g} times in 10."
        )
    return built("differences", caption, columns, differences, first="difference")


def spread_difference_table(differences: Mapping[str, Values], *, confidence: float, headline: str) -> FigureTable:
    """Differences of spread, and of the mean by the other measures."""
    level = f"{100 * confidence:g} % interval"
    columns = [
        ("ratio of stds", figure("std_ratio.value", ratio)),
        (level, interval("std_ratio", ratio)),
        ("lowest decile", figure("decile.mean", points)),
        (level, interval("decile", points)),
        ("strict", figure("measures.strict.mean", points)),
        ("knowledge", figure("measures.knowledge.mean", points)),
        (level, interval("measures.knowledge", points)),
    ]
    caption = (
        f"The same pairs: std over templates of {headline}, first divided by second (below 1: the first depends less "
        "on the template); then differences in percentage points. These intervals are not corrected for their number."
    )
    return built("spread-differences", caption, columns, differences, first="difference")


def group_table(groups: Mapping[str, Values], *, confidence: float, headline: str) -> FigureTable | None:
    """Every arm in every group of templates; None without groups."""
    rows = {f"{name}: {arm}": row for name, group in groups.items() for arm, row in group["arms"].items()}
    if not rows:
        return None
    columns = [
        (headline, figure("mean", percent)),
        (f"{100 * confidence:g} % interval", interval("", percent)),
        ("knowledge", figure("measures.knowledge.mean", percent)),
        ("std", figure("std", percent)),
        ("lowest decile", figure("decile", percent)),
        ("worst", figure("worst", percent)),
        ("templates", figure("num_templates", number(0))),
    ]
    caption = (
        "Groups of templates apart, accuracy in percent; their file names the groups. Figures of spread need "
        f"{MIN_TEMPLATES} templates, intervals {MIN_TEMPLATES_INTERVAL}."
    )
    return built("groups", caption, columns, rows, first="group: arm")


def group_difference_table(groups: Mapping[str, Values], *, confidence: float, headline: str) -> FigureTable | None:
    """Every difference in every group; None without groups."""
    rows = {
        f"{name}: {gap['first']} − {gap['second']}": gap
        for name, group in groups.items()
        for gap in group["differences"].values()
    }
    if not rows:
        return None
    level = f"{100 * confidence:g} % interval"
    columns = [
        (headline, figure("mean", points)),
        (level, interval("", points)),
        ("knowledge", figure("measures.knowledge.mean", points)),
        (level, interval("measures.knowledge", points)),
    ]
    caption = "Differences within each group, in percentage points; intervals are not corrected for their number."
    return built("group-differences", caption, columns, rows, first="group: difference")


def calibration_table(
    plain: Mapping[str, Values], calibrated: Mapping[str, Values], *, confidence: float
) -> FigureTable | None:
    """The most probable label with and without calibration; None where nothing was calibrated."""
    if not calibrated:
        return None
    rows = {name: row for arm in plain for name, row in ((arm, plain[arm]), (f"{arm}+cal", calibrated[f"{arm}+cal"]))}
    level = f"{100 * confidence:g} % interval"
    columns = [
        ("accuracy", figure("mean", percent)),
        (level, interval("", percent)),
        ("std", figure("std", percent)),
        ("lowest decile", figure("decile", percent)),
        ("worst", figure("worst", percent)),
    ]
    caption = (
        "Calibration control, accuracy in percent of the most probable label (that of knowledge where no two labels "
        "begin with the same token; else greedy decoding may end in another). +cal: the same after the mean of each "
        "label's log-probability over the test rows under the same template is taken off. That uses the test rows "
        "together, without their answers (transductive), and trains nothing."
    )
    return built("calibration", caption, columns, rows)


def built(
    name: str, caption: str, columns: Iterable[Column], values: Mapping[str, Values], first: str = "arm"
) -> FigureTable:
    """The table of these columns, those without any figure left out. `values`: row -> what its cells are made of;
    `first`: head of the rows' names."""
    filled = [(head, [cell(row) for row in values.values()]) for head, cell in columns]
    kept = [(head, cells) for head, cells in filled if any(cell.text != "–" for cell in cells)]
    rows = {row: tuple(cells[place] for _, cells in kept) for place, row in enumerate(values)}
    return FigureTable(name=name, caption=caption, first=first, head=tuple(head for head, _ in kept), rows=rows)


def _quantiles(arms: Mapping[str, Values]) -> list[Column]:
    """A column for each quantile that an arm has, in their order."""
    levels: Sequence[str] = sorted({level for arm in arms.values() for level in arm.get("quantiles") or {}}, key=float)
    return [(f"{100 * float(level):g} %" if level != "0.5" else "median", _quantile(level)) for level in levels]


def _at(row: Values, path: str) -> Any:
    """The entry at a dotted path; None where it or one above it is missing."""
    found: Any = row
    for name in path.split(".") if path else ():
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def figure(path: str, form: Form) -> Callable[[Values], Cell]:
    """The entry at a dotted path, written in `form`."""
    return lambda row: Cell(text=form(_at(row, path)), value=_at(row, path))


def _quantile(level: str) -> Callable[[Values], Cell]:
    def cell(row: Values) -> Cell:
        value = (row.get("quantiles") or {}).get(level)
        return Cell(text=percent(value), value=value)

    return cell


def interval(path: str, form: Form) -> Callable[[Values], Cell]:
    """`low` to `high` of the entry at a path, sorted by the lower end. What is written in percent is a fraction: its
    interval is shown as far as it lies in 0 to 100 %."""

    def cell(row: Values) -> Cell:
        found = _at(row, path) or {}
        low, high = found.get("low"), found.get("high")
        text = span(*within(low, high), form) if form is percent else span(low, high, form)
        return Cell(text=text, value=low)

    return cell


def _decisive(row: Values) -> Cell:
    value = row.get("decisive")
    return Cell(text="–" if value is None else "yes" if value else "no", value=None if value is None else float(value))
