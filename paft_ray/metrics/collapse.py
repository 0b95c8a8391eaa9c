"""What accuracy hides: one answer to nearly every row of a template, and labels of unequal number."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

COLLAPSED_ABOVE = 0.95
"""Fraction of a template's rows from which one answer is a collapse."""
_PLACE = ["arm", "seed", "template_id"]


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


def collapsed_templates(table: pa.Table, column: str = "named", *, min_rows: int = 1) -> list[Collapse]:
    """Templates of each arm and seed on which one answer stands in over 95 % of at least `min_rows` rows, by arm, seed,
    template.

    `table`: rows of evaluate/outcomes.parquet. `column`: `named` (what the unconstrained answer says; null counts as an
    answer) or `predicted`. An answer that is right on over 95 % of the template's rows is none: a model that is right
    there has not collapsed. Right is what the grader says, `behavior`, or `correct` for `predicted`; a reference
    (`answer`) may hold more than what is parsed.
    """
    rows = table.append_column("score", table["correct" if column == "predicted" else "behavior"].cast("float64"))
    sizes = rows.group_by(_PLACE, use_threads=False).aggregate([([], "count_all")])
    given = rows.group_by([*_PLACE, column], use_threads=False).aggregate([([], "count_all"), ("score", "sum")])
    given = given.rename_columns([*_PLACE, "answer", "count", "right"]).join(sizes, _PLACE)
    fraction = pc.divide(given["count"].cast("float64"), given["count_all"])
    is_most = pc.and_(pc.greater(fraction, COLLAPSED_ABOVE), pc.greater_equal(given["count_all"], min_rows))
    is_right = pc.greater(pc.divide(given["right"], given["count_all"]), COLLAPSED_ABOVE)
    found = given.filter(pc.and_not(is_most, is_right)).sort_by([(name, "ascending") for name in _PLACE])
    return [
        Collapse(**{name: row[name] for name in (*_PLACE, "answer")}, fraction=row["count"] / row["count_all"])
        for row in found.to_pylist()
    ]


def balanced_accuracy(table: pa.Table, column: str = "behavior") -> dict[str, float | None]:
    """Arm -> mean over right labels of the mean score of their rows under all templates, averaged over seeds: a
    constant answer has 1 / number of labels, however unequal these are.

    `column`: `behavior`, `strict` or `correct`. None where fewer than two labels are right answers, or a score is not
    known.
    """
    rows = table.select(["arm", "seed", "answer"]).append_column("score", table[column].cast("float64"))
    known = pc.ScalarAggregateOptions(skip_nulls=False)
    labels = rows.group_by(["arm", "seed", "answer"], use_threads=False).aggregate([("score", "mean", known)])
    seeds = labels.group_by(["arm", "seed"], use_threads=False).aggregate(
        [("score_mean", "mean", known), ([], "count_all")]
    )
    several = pc.greater(seeds["count_all"], 1)
    means = pc.if_else(several, seeds["score_mean_mean"], None)
    arms = pa.table({"arm": seeds["arm"], "mean": means}).group_by("arm", use_threads=False)
    return {row["arm"]: row["mean_mean"] for row in arms.aggregate([("mean", "mean", known)]).to_pylist()}
