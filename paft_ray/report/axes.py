"""What each axis of a suite does to each arm: how far it moves accuracy, what every level changes, and the worst case
with what was asked and answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from paft_ray.metrics import ArmOutcomes, Measure
from paft_ray.metrics.axes import axis_spread, level_change
from paft_ray.metrics.outcomes import known_mean, mean_over_seeds
from paft_ray.prompts.template import PromptTemplate
from paft_ray.prompts.variations.variant import TEMPLATES, Variant, posed
from paft_ray.report.inputs import arms_by_measure
from paft_ray.report.tables import given, scores, text_of
from paft_ray.tasks.task import Example

UNCHANGED = "unchanged"
"""The level of the plain template."""
_NUM_WRONG = 2
_LONGEST = 1200  # characters of a prompt that are shown


@dataclass(frozen=True, kw_only=True)
class Varied:
    """The outcomes of a suite."""

    outcomes: pa.Table
    """Of all columns, plain and varied."""
    plain: Sequence[PromptTemplate]
    variants: Sequence[Variant]
    examples: Mapping[str, Example]
    texts: pa.Table | None = None
    """Schema `ANSWERS`, of a task without labels."""

    @cached_property
    def by_measure(self) -> Mapping[Measure, Mapping[str, ArmOutcomes]]:
        """As `arms_by_measure`."""
        return arms_by_measure(self.outcomes)

    @property
    def axes(self) -> tuple[str, ...]:
        """That of plain templates first."""
        return (TEMPLATES, *dict.fromkeys(variant.axis for variant in self.variants))


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Columns of one axis: a template for each base and level."""

    levels: tuple[str, ...]
    columns: tuple[tuple[PromptTemplate, ...], ...]
    """By base, then level."""


def axis_values(varied: Varied, confidence: float) -> dict[str, Any]:
    """Axis -> `levels`, `num_templates` and for each arm `std` with `low` and `high` (None: too few cells), `levels`
    (mean, and where there are plain templates the change against them) and `worst`, as results.json holds them; by the
    headline measure. `measures`: std with its interval by the others."""
    headline, *others = varied.by_measure
    arms = varied.by_measure[headline]
    found = {}
    for axis in varied.axes:
        grid = _grid(varied, axis)
        found[axis] = {
            "num_templates": len(grid.columns),
            "num_levels": len(grid.columns[0]),
            "levels": list(grid.levels),
            "arms": {
                name: {
                    **_of_arm(arm, grid, confidence),
                    "measures": {
                        measure: _spread(_cells(varied.by_measure[measure][name], grid), confidence)
                        for measure in others
                        if name in varied.by_measure[measure]
                    },
                }
                for name, arm in arms.items()
            },
        }
    return found


def _grid(varied: Varied, axis: str) -> _Grid:
    if axis == TEMPLATES:
        return _Grid(levels=(), columns=(tuple(varied.plain),))
    of_axis = [variant for variant in varied.variants if variant.axis == axis]
    plain = {template.id: template for template in varied.plain}
    changed = all(variant.base in plain for variant in of_axis)
    by_base: dict[str, dict[str, PromptTemplate]] = {}
    for variant in of_axis:
        unchanged = {UNCHANGED: plain[variant.base]} if changed else {}
        by_base.setdefault(variant.base, dict(unchanged))[variant.level] = variant
    levels = tuple(next(iter(by_base.values())))
    return _Grid(levels=levels, columns=tuple(tuple(of[level] for level in levels) for of in by_base.values()))


def _of_arm(arm: ArmOutcomes, grid: _Grid, confidence: float) -> dict[str, Any]:
    cells = _cells(arm, grid)
    flat = [template for columns in grid.columns for template in columns]
    accuracy = known_mean(cells, axis=2).ravel()
    worst = int(np.argmin(np.where(np.isnan(accuracy), np.inf, accuracy)))
    return {
        **_spread(cells, confidence),
        "levels": {
            level: {
                "mean": _number(known_mean(cells[:, place].ravel(), axis=0)),
                **(_change(cells, place, confidence) if grid.levels[0] == UNCHANGED and place else {}),
            }
            for place, level in enumerate(grid.levels)
        },
        "worst": {
            "template_id": flat[worst].id,
            "level": getattr(flat[worst], "level", UNCHANGED),
            "accuracy": _number(accuracy[worst]),
        },
    }


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _spread(cells: NDArray[np.float64], confidence: float) -> dict[str, float | None]:
    found = axis_spread(cells, confidence=confidence)
    return {name: None if found is None else getattr(found, name) for name in ("std", "low", "high")}


def _change(cells: NDArray[np.float64], place: int, confidence: float) -> dict[str, Any]:
    if np.isnan(cells[:, place] - cells[:, 0]).all():
        return {"change": None, "low": None, "high": None}
    change = level_change(cells[:, place], cells[:, 0], confidence=confidence)
    return {"change": change.mean, "low": change.low, "high": change.high}


def _cells(arm: ArmOutcomes, grid: _Grid) -> NDArray[np.float64]:
    """Shape [bases, levels, examples], means over seeds; NaN where nothing came."""
    place = {template: number for number, template in enumerate(arm.template_ids)}
    means = mean_over_seeds(arm.correct)
    known = np.vstack([means, np.full((1, means.shape[1]), np.nan)])
    return known[np.array([[place.get(template.id, -1) for template in columns] for columns in grid.columns])]


@dataclass(frozen=True, kw_only=True)
class WorstCase:
    """The column of an axis under which an arm did worst, with wrong answers."""

    axis: str
    arm: str
    level: str
    accuracy: float | None
    template: PromptTemplate
    wrong: tuple[tuple[str, str, str], ...]
    """(What was asked, right answer, what was given) of the arm's first seed; options and labels as they were
    shown."""


def worst_cases(varied: Varied, values: Mapping[str, Any]) -> list[WorstCase]:
    """By axis, then arm. `values`: of `axis_values`."""
    headline = next(iter(varied.by_measure))
    templates = {template.id: template for template in (*varied.plain, *varied.variants)}
    found = []
    for axis, of_axis in values.items():
        for arm, figures in of_axis["arms"].items():
            worst = figures["worst"]
            template = templates[worst["template_id"]]
            found.append(
                WorstCase(
                    axis=axis,
                    arm=arm,
                    level=worst["level"],
                    accuracy=worst["accuracy"],
                    template=template,
                    wrong=_wrong(varied, arm, template, headline),
                )
            )
    return found


def _wrong(varied: Varied, arm: str, template: PromptTemplate, headline: Measure) -> tuple[tuple[str, str, str], ...]:
    rows = varied.outcomes.filter((pc.field("arm") == arm) & (pc.field("template_id") == template.id))
    rows = rows.filter(pc.equal(rows["seed"], pc.min(rows["seed"])))
    rows = rows.filter(pc.less(scores(rows, headline), 1)).sort_by("example_id")
    found = []
    for outcome in rows.slice(0, _NUM_WRONG).to_pylist():
        cell = posed(template, varied.examples[outcome["example_id"]])
        answer = given(outcome, headline, text_of(outcome, varied.texts))
        said = cell.shown.get(answer.text, answer.text) if answer.parsed else answer.text
        asked = "\n\n".join(filter(None, (cell.template.system, cell.template.render(cell.example.fields))))
        found.append((asked[:_LONGEST], cell.example.answer, said or "(nothing)"))
    return tuple(found)
