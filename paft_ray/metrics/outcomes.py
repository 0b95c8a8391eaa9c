"""Right and wrong answers of the arms, from the rows of outcomes.parquet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paft_ray.errors import UserError

NOT_PARSED, MISSING = -1, -2
"""Codes in `ArmOutcomes.predicted`: an answer that could not be parsed, a row that failed."""
_MOST_CELLS = 2**26
"""Of an arm: a file of a few rows, each of another seed, template and example, would ask for the cube of their
number."""


@dataclass(frozen=True, kw_only=True)
class ArmOutcomes:
    """Right and wrong answers of one arm."""

    template_ids: tuple[str, ...]
    example_ids: tuple[str, ...]
    seeds: tuple[int, ...]
    correct: NDArray[np.float64]
    """Shape [seeds, templates, examples]: 1, 0, or NaN where the row failed."""
    predicted: NDArray[np.int64] | None = None
    """Same shape: code of the predicted text, -1 not parsed, -2 row failed. None: not known."""

    @property
    def by_template(self) -> NDArray[np.float64]:
        """Accuracy per template, averaged over seeds. Shape [templates]. Raises `UserError` for a template without any
        outcome."""
        present = ~np.isnan(self.correct)
        counts = present.sum(axis=2)
        if (counts == 0).any():
            missing = sorted({self.template_ids[t] for t in np.nonzero(counts == 0)[1]})
            raise UserError(f"no outcomes for template {', '.join(missing)[:200]}; run stage evaluate again (--force)")
        return np.asarray((np.nansum(self.correct, axis=2) / counts).mean(axis=0))


def arms_from_table(table: Any) -> dict[str, ArmOutcomes]:
    """Arm -> outcomes, from an Arrow table with columns arm, seed, template_id, example_id, predicted, parsed, correct.

    All arms share the ids of templates and examples (sorted); a missing row is NaN.
    Raises `UserError` for a row that comes twice, and for more than 2**26 cells.
    """
    arms, arm_code = np.unique(_texts(table, "arm"), return_inverse=True)
    templates, template_code = np.unique(_texts(table, "template_id"), return_inverse=True)
    examples, example_code = np.unique(_texts(table, "example_id"), return_inverse=True)
    _, predicted_code = np.unique(_texts(table, "predicted"), return_inverse=True)
    seed = table.column("seed").to_numpy()
    predicted = np.where(table.column("parsed").to_numpy(), predicted_code, NOT_PARSED)
    correct = table.column("correct").to_numpy().astype(np.float64)
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


def _texts(table: Any, column: str) -> NDArray[np.str_]:
    return np.array([value or "" for value in table.column(column).to_pylist()], dtype=np.str_)
