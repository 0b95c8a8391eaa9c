"""What accuracy hides: one answer to nearly every row of a template, and labels of unequal number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

COLLAPSED_ABOVE = 0.95
"""Fraction of a template's rows from which one answer is a collapse."""


@dataclass(frozen=True, kw_only=True)
class Collapse:
    """A template under which an arm gives one answer, whatever is asked."""

    arm: str
    seed: int
    template_id: str
    answer: str | None
    """None: nothing that names a label."""
    fraction: float
    """Of the template's rows."""


def collapsed_templates(table: Any, column: str = "named", *, min_rows: int = 1) -> list[Collapse]:
    """Templates of each arm and seed on which one answer stands in over 95 % of at least `min_rows` rows, by arm, seed,
    template.

    `table`: rows of evaluate/outcomes.parquet. `column`: `named` (what the unconstrained answer says; null counts as an
    answer) or `predicted`. An answer that most rows of the template have as their right one is none: a model that is
    right there has not collapsed.
    """
    found = []
    for (arm, seed, template), rows in _by_template(table, (column, "answer")).items():
        if len(rows) < min_rows:
            continue
        answers = [answer for answer, _ in rows]
        most = max(dict.fromkeys(answers), key=answers.count)
        fraction = answers.count(most) / len(rows)
        right = sum(answer == most for _, answer in rows) / len(rows)
        if fraction > COLLAPSED_ABOVE and right <= COLLAPSED_ABOVE:
            found.append(Collapse(arm=arm, seed=seed, template_id=template, answer=most, fraction=fraction))
    return found


def balanced_accuracy(table: Any, column: str = "behavior") -> dict[str, float | None]:
    """Arm -> mean over right labels of the mean score of their rows under all templates, averaged over seeds: a
    constant answer has 1 / number of labels, however unequal these are.

    `column`: `behavior`, `strict` or `correct`. None where fewer than two labels are right answers, or a score is not
    known.
    """
    per_seed: dict[tuple[str, int], dict[str, list[float]]] = {}
    for (arm, seed, _), rows in _by_template(table, (column, "answer")).items():
        of_label = per_seed.setdefault((arm, seed), {})
        for score, answer in rows:
            of_label.setdefault(answer, []).append(np.nan if score is None else float(score))
    per_arm: dict[str, list[float]] = {}
    for (arm, _), labels in per_seed.items():
        means = [float(np.mean(scores)) for scores in labels.values()]
        per_arm.setdefault(arm, []).append(float(np.mean(means)) if len(means) > 1 else np.nan)
    return {arm: None if np.isnan(values).any() else float(np.mean(values)) for arm, values in per_arm.items()}


def _by_template(table: Any, columns: Sequence[str]) -> dict[tuple[str, int, str], list[tuple[Any, ...]]]:
    """(arm, seed, template) -> the values of these columns, row by row; sorted."""
    names = ("arm", "seed", "template_id", *columns)
    found: dict[tuple[str, int, str], list[tuple[Any, ...]]] = {}
    for arm, seed, template, *values in zip(*(table.column(name).to_pylist() for name in names), strict=True):
        found.setdefault((arm, seed, template), []).append(tuple(values))
    return dict(sorted(found.items()))
