"""Which (template, example) cells are asked where not all are: stratified, and the same for every arm and seed. Axes
are [templates, examples]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MIN_CELLS_PER_TEMPLATE = 1
"""Every template is asked at least once, however small the budget."""
_MIN_GROUP = 5


def num_cells(num_templates: int, num_examples: int, budget: float) -> int:
    """Cells that are answered: a fraction `budget` in (0, 1] of the grid, rounded, at least `MIN_CELLS_PER_TEMPLATE` of
    every template."""
    return max(MIN_CELLS_PER_TEMPLATE * num_templates, round(budget * num_templates * num_examples))


def answer_strata(answers: Sequence[str]) -> NDArray[np.int64]:
    """Group of every example by its right answer; answers that fewer than 5 examples share form one group. Shape
    [examples]."""
    _, code, counts = np.unique(np.array(answers, dtype=np.str_), return_inverse=True, return_counts=True)
    merged = np.where(counts[code] < _MIN_GROUP, -1, code)
    return np.asarray(np.unique(merged, return_inverse=True)[1], dtype=np.int64)


def sample_cells(
    num_templates: int, num_examples: int, budget: float, seed: int, groups: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """Which cells to ask, `num_cells` of them; a function of its arguments alone. Shape [templates, examples].

    Examples per template differ by at most one between templates, and so do templates per example within a group. The
    examples of every template are spread over `groups` (code of each example, see `answer_strata`; default: one group)
    in proportion to the groups' sizes, as nearly as integers allow. Raises `ValueError` for a budget out of range.
    """
    if not 0 < budget <= 1:
        raise ValueError(f"budget is {budget}, it must be above 0 and at most 1")
    rng = np.random.default_rng(seed)
    groups = np.zeros(num_examples, dtype=np.int64) if groups is None else groups
    sizes = np.bincount(groups)
    total = num_cells(num_templates, num_examples, budget)
    per_template = total // num_templates + (rng.permutation(num_templates) < total % num_templates)
    chosen = np.zeros((num_templates, num_examples), dtype=bool)
    uses, given, asked = np.zeros(num_examples, dtype=np.int64), np.zeros(len(sizes), dtype=np.int64), 0
    for t in rng.permutation(num_templates):
        asked += per_template[t]
        quota = _quota(int(per_template[t]), sizes, asked * sizes / num_examples - given, rng)
        given += quota
        order = np.lexsort((rng.random(num_examples), uses, groups))
        rank = np.empty(num_examples, dtype=np.int64)
        rank[order] = np.arange(num_examples) - np.searchsorted(groups[order], groups[order])
        chosen[t] = rank < quota[groups]
        uses += chosen[t]
    return chosen


def _quota(
    number: int, sizes: NDArray[np.int64], owed: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Examples of one template per group: the whole part of its share, the rest to the groups that are owed most so
    far."""
    quota = number * sizes // sizes.sum()
    order = np.lexsort((rng.random(len(sizes)), -np.where(quota < sizes, owed - quota, -np.inf)))
    quota[order[: number - quota.sum()]] += 1
    return quota
