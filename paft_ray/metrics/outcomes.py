"""Scores of the answers of the arms, from the rows of outcomes.parquet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from paft_ray.errors import UserError

Measure = Literal["behavior", "strict", "knowledge"]
"""behavior: the unconstrained answer, parsed leniently; strict: without leniency; knowledge: the choice constrained to
the labels."""
NOT_PARSED, MISSING = -1, -2
"""Codes in `ArmOutcomes.predicted`: an answer that could not be parsed, a row that failed."""
UNTRAINED = (-1,)
"""Seeds of an arm that nobody trained."""
_MOST_CELLS = 2**26
"""Of an arm: a file of a few rows, each of another seed, template and example, would ask for the cube of their
number."""


@dataclass(frozen=True, kw_only=True)
class ArmOutcomes:
    """Scores of the answers of one arm, in [0, 1]."""

    template_ids: tuple[str, ...]
    example_ids: tuple[str, ...]
    seeds: tuple[int, ...]
    correct: NDArray[np.float64]
    """Shape [seeds, templates, examples]: 1 right, 0 wrong, in between for a grader with part marks; NaN where the row
    failed."""
    predicted: NDArray[np.int64] | None = None
    """Same shape: code of the predicted text, -1 not parsed, -2 row failed. None: not known."""

    @property
    def is_graded(self) -> bool:
        """Some value is neither right (1) nor wrong (0)."""
        return bool(((self.correct > 0) & (self.correct < 1)).any())

    @property
    def by_seed(self) -> NDArray[np.float64]:
        """Accuracy per seed and template. Shape [seeds, templates]. Raises `UserError` for a template without any
        outcome."""
        present = ~np.isnan(self.correct)
        counts = present.sum(axis=2)
        if (counts == 0).any():
            missing = sorted({self.template_ids[t] for t in np.nonzero(counts == 0)[1]})
            raise UserError(f"no outcomes for template {', '.join(missing)[:200]}; run stage evaluate again (--force)")
        return np.asarray(np.nansum(self.correct, axis=2) / counts)

    @property
    def by_template(self) -> NDArray[np.float64]:
        """`by_seed` averaged over seeds. Shape [templates]."""
        return np.asarray(self.by_seed.mean(axis=0))


def have_common_seeds(first: ArmOutcomes, second: ArmOutcomes) -> bool:
    """Whether two arms can be compared seed by seed: some seed is in both, or one was never trained (`base`)."""
    return bool(set(first.seeds) & set(second.seeds)) or UNTRAINED in (first.seeds, second.seeds)


def on_common_seeds(first: ArmOutcomes, second: ArmOutcomes) -> tuple[ArmOutcomes, ArmOutcomes]:
    """Both arms on the training seeds that both have; on all of theirs where they have none in common. An arm that
    nobody trained (`base`) stands against every seed of the other."""
    common = [seed for seed in first.seeds if seed in second.seeds]
    return (_of_seeds(first, common), _of_seeds(second, common)) if common else (first, second)


def _of_seeds(arm: ArmOutcomes, seeds: Sequence[int]) -> ArmOutcomes:
    places = [arm.seeds.index(seed) for seed in seeds]
    predicted = None if arm.predicted is None else arm.predicted[places]
    return replace(arm, seeds=tuple(seeds), correct=arm.correct[places], predicted=predicted)


def mean_over_seeds(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis of every cell of `values` [seeds, templates, examples], NaN where none was measured.
    Shape [templates, examples]."""
    return known_mean(values, axis=0)


def known_mean(values: NDArray[np.float64], *, axis: int) -> NDArray[np.float64]:
    """Means along an axis of what was measured, NaN where nothing was."""
    counts = (~np.isnan(values)).sum(axis=axis)
    return np.where(counts, np.nansum(values, axis=axis) / np.maximum(counts, 1), np.nan)


def arms_from_table(table: Any, measure: Measure = "knowledge") -> dict[str, ArmOutcomes]:
    """Arm -> outcomes, from an Arrow table with the columns of evaluate/outcomes.parquet.

    knowledge: columns `correct`, `predicted`, `parsed`; behavior, strict: the column of that name, and `named` as the
    prediction. All arms share the ids of templates and examples (sorted); a missing row is NaN. Raises `UserError` for
    a row that comes twice, for more than 2**26 cells, for values outside [0, 1] and for a table without the measure.
    """
    arms, arm_code = _coded(table, "arm")
    templates, template_code = _coded(table, "template_id")
    examples, example_code = _coded(table, "example_id")
    seed = table.column("seed").to_numpy()
    correct, predicted = _answers(table, measure)
    found = {}
    for number, arm in enumerate(arms):
        rows = arm_code == number
        seeds, seed_code = np.unique(seed[rows], return_inverse=True)
        shape = (len(seeds), len(templates), len(examples))
        if math.prod(shape) > _MOST_CELLS:
            size = " x ".join(map(str, shape))
            raise UserError(
                f"outcomes of arm {arm}: {size} seeds, templates and examples, at most {_MOST_CELLS} cells are "
                "read; run stage evaluate again"
            )
        cell = np.ravel_multi_index((seed_code, template_code[rows], example_code[rows]), shape)
        if (repeated := np.bincount(cell) > 1).any():
            raise UserError(
                f"outcomes of arm {arm}: {int(repeated.sum())} (seed, template, example) come more than once; run "
                "stage evaluate again (--force)"
            )
        right, answer = np.full(shape, np.nan), np.full(shape, MISSING, dtype=np.int64)
        right.flat[cell], answer.flat[cell] = correct[rows], predicted[rows]
        found[str(arm)] = ArmOutcomes(
            template_ids=tuple(map(str, templates)),
            example_ids=tuple(map(str, examples)),
            seeds=tuple(map(int, seeds)),
            correct=right,
            predicted=answer,
        )
    return found


def _answers(table: Any, measure: Measure) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Value of every row (NaN: not asked) and code of its prediction."""
    value, prediction = ("correct", "predicted") if measure == "knowledge" else (measure, "named")
    absent = {value, prediction} - set(table.column_names)
    if absent or table.column(value).null_count == len(table) > 0:
        raise UserError(f"these outcomes do not hold the measure {measure}; run stage evaluate again")
    correct = table.column(value).cast("float64").to_numpy()
    if ((correct < 0) | (correct > 1)).any():
        raise UserError(f"outcomes: column {value} has values outside 0 to 1; run stage evaluate again (--force)")
    _, codes = _coded(table, prediction)
    parsed = table.column("parsed") if measure == "knowledge" else table.column(prediction).is_valid()
    return correct, np.where(np.isnan(correct), MISSING, np.where(parsed.to_numpy(), codes, NOT_PARSED))


def _coded(table: Any, column: str) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """The distinct texts of a column, sorted (null: the empty text), and for each row the place of its own."""
    found = table.column(column).fill_null("").combine_chunks().dictionary_encode()
    texts, place = np.unique(np.array(found.dictionary.to_pylist(), dtype=np.str_), return_inverse=True)
    return texts, place[found.indices.to_numpy()]
