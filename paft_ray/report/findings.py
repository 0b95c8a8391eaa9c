"""What the figures say beyond the verdict, in plain sentences. Each says what its interval says, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paft_ray.report.format import percent, points, span

Values = Mapping[str, Any]
"""The content of results.json, or a part of it."""
JUDGED_BY = {
    "behavior": "unconstrained answers",
    "strict": "strictly parsed unconstrained answers",
    "knowledge": "answers constrained to the labels",
}
"""Measure -> what it judges."""


def findings(values: Values) -> list[str]:
    """Sentences about the primary comparison, then about the arms: knowledge, labels that are named, spread, lowest
    decile, groups of templates, calibration, collapsed templates, seeds. What was not measured is not mentioned."""
    gap = values["differences"].get(values["primary"])
    pair = (gap["first"], gap["second"]) if gap else ("", "")
    of_pair = [_knowledge(gap, *pair), _spread(gap, *pair), _decile(gap, *pair), _groups(values)] if gap else []
    compared = [sentence for sentence in (*of_pair, values["calibration_verdict"]) if sentence]
    of_arms = [sentence for sentence in (_named(values["arms"]), _collapsed(values["arms"])) if sentence]
    return [*compared, *of_arms, *([_brackets(gap, values["confidence"])] if compared else [])]


def _knowledge(gap: Values, first: str, second: str) -> str | None:
    return _gap("Knowledge (the answer constrained to the labels)", gap["measures"].get("knowledge"), first, second)


def _spread(gap: Values, first: str, second: str) -> str | None:
    ratio = gap["std_ratio"]
    if not ratio or ratio["value"] is None or ratio["low"] is None:
        return None
    side = _side(ratio["low"], ratio["high"], 1.0)
    said = {
        -1: f"{first} depends less on the template" + (", at a lower mean" if gap["mean"] < 0 else ""),
        0: "a difference in spread is not shown",
        1: f"{first} depends more on the template" + (", at a higher mean" if gap["mean"] > 0 else ""),
    }[side]
    return (
        f"Spread over templates: the std of {first} is {ratio['value']:.2f} times that of {second} "
        f"({ratio['low']:.2f} to {ratio['high']:.2f}); {said}."
    )


def _decile(gap: Values, first: str, second: str) -> str | None:
    return _gap("Lowest decile over templates", gap["decile"], first, second)


def _gap(what: str, found: Values | None, first: str, second: str) -> str | None:
    """A difference and what its interval shows; None where there is no interval."""
    if not found or found["mean"] is None or found["low"] is None:
        return None
    is_shown = _side(found["low"], found["high"], 0.0) != 0
    shown = "the interval excludes zero" if is_shown else "a difference is not shown"
    return f"{what}: {first} − {second} is {_points_with(found)}; {shown}."


def _groups(values: Values) -> str | None:
    """The primary difference in each group of templates."""
    gaps = {name: group["differences"].get(values["primary"]) for name, group in values["groups"].items()}
    parts = [f"{name} {_points_with(gap)}" for name, gap in gaps.items() if gap]
    if len(parts) < 2:
        return None
    primary = values["differences"][values["primary"]]
    return f"{primary['first']} − {primary['second']} in each group of templates: {'; '.join(parts)}."


def _brackets(gap: Values, confidence: float) -> str:
    """What the intervals of these sentences are, and are not, for."""
    weights = (
        "; with one seed they are for these weights and say nothing of other trainings" if gap["num_seeds"] == 1 else ""
    )
    return f"Numbers in brackets are {100 * confidence:g} % intervals, not corrected for their number{weights}."


def _named(arms: Mapping[str, Values]) -> str | None:
    parts = [f"{arm} {percent(row['named_rate'])} %" for arm, row in arms.items() if row["named_rate"] is not None]
    return f"Answers that name a label, unconstrained: {', '.join(parts)}." if parts else None


def _collapsed(arms: Mapping[str, Values]) -> str | None:
    """How many templates make an arm give one answer always."""
    numbers = {arm: len({found["template_id"] for found in row["collapsed"]}) for arm, row in arms.items()}
    seed = " of some seed" if any(row["num_seeds"] > 1 for row in arms.values()) else ""
    if not any(numbers.values()):
        return None
    parts = [f"{arm} {number} of {arms[arm]['num_templates']}" for arm, number in numbers.items()]
    return (
        f"Templates under which an arm gives one answer, or none, on over 95 % of the rows{seed}: {', '.join(parts)}."
    )


def calibration_verdict(plain: Values, calibrated: Values, *, first: str, second: str) -> str:
    """Whether calibration alone closes the gap of the most probable label between two arms. `plain`: the difference of
    both without calibration; `calibrated`: of the first without, minus the second with it.

    The rule: there is a gap where the interval of `plain` lies above zero. Calibration does not close it where that of
    `calibrated` does too, closes it where that lies at or below zero, and is not shown to do either between.
    """
    control = f"{second}+cal"
    told = f"Calibration control (most probable label): {first} − {control} is {_points_with(calibrated)}"
    if None in (plain["low"], calibrated["low"]):
        return f"{told}; without intervals nothing is decided."
    if plain["low"] <= 0:
        return f"{told}; {first} − {second} is {_points_with(plain)}, so there is no gap shown to close."
    if calibrated["low"] > 0:
        return f"{told}; calibration alone does not close the gap of {_points_with(plain)}."
    if calibrated["high"] <= 0:
        return f"{told}; calibration alone closes the gap of {_points_with(plain)}."
    return (
        f"{told}; this interval holds zero, so calibration alone may close the gap of {_points_with(plain)}: it is "
        "not shown that a difference is left, nor that none is."
    )


def _points_with(gap: Values) -> str:
    """`+12.0 points (3.1 to 20.9)`."""
    interval = "" if gap["low"] is None else f" ({span(gap['low'], gap['high'], points)})"
    return f"{points(gap['mean'])} points{interval}"


def _side(low: float, high: float, neutral: float) -> int:
    """-1: the interval lies below `neutral`, 1: above, 0: it holds it."""
    return 1 if low > neutral else -1 if high < neutral else 0
