"""Budgeted evaluation on real outcomes: error and coverage over repeated draws of cells, against simple random cells at
the same budget.

`python benchmarks/budget.py [RUN] [DRAWS]` (default runs/demo, 200 draws per budget, arm and seed). The run must have
answered its full grid: what is known is hidden and estimated. The baseline: as many cells, drawn with equal chance from
the grid; a template's accuracy is the mean of its seen cells, that of a template without any is the mean of all seen
cells. Errors are root mean squares in points over draws, arms and seeds; `lowest` is the arm and seed whose interval
covers least often."""

from __future__ import annotations

import os
import sys

os.environ.update(
    OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1"
)  # small matrices: threads only wait for each other

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from paft_ray.metrics import arms_from_table
from paft_ray.metrics.budget import ESTIMATED_QUANTILES, estimate
from paft_ray.metrics.cell_sampling import answer_strata, sample_cells

BUDGETS = (0.02, 0.05, 0.1, 0.2, 0.5)
NAMES = ("mean", *(f"q{q:g}" for q in ESTIMATED_QUANTILES), "std")


def grids(run: str) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64]]:
    """`ARM-sSEED` -> full grid of right and wrong, and the group of each example."""
    table = pq.read_table(f"{run}/evaluate/outcomes.parquet")
    arms = arms_from_table(table)
    answers = dict(zip(table["example_id"].to_pylist(), table["answer"].to_pylist(), strict=True))
    found = {f"{name}-s{seed}": arm.correct[i] for name, arm in arms.items() for i, seed in enumerate(arm.seeds)}
    if any(np.isnan(grid).any() for grid in found.values()):
        sys.exit(f"{run}: a complete grid is needed, some cells are missing")
    return found, answer_strata([answers[example] for example in next(iter(arms.values())).example_ids])


def figures(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean, quantiles and std over templates."""
    return np.array([accuracy.mean(), *np.quantile(accuracy, ESTIMATED_QUANTILES), accuracy.std(ddof=1)])


def by_random_cells(grid: NDArray[np.float64], num_cells: int, seed: int) -> NDArray[np.float64]:
    """The baseline's figures."""
    seen = np.zeros(grid.size, dtype=bool)
    seen[np.random.default_rng([seed, 1]).choice(grid.size, num_cells, replace=False)] = True
    seen = seen.reshape(grid.shape)
    count = seen.sum(axis=1)
    return figures(np.where(count > 0, (grid * seen).sum(axis=1) / np.maximum(count, 1), grid[seen].mean()))


def draws_of(
    grid: NDArray[np.float64], groups: NDArray[np.int64], budget: float, draws: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Errors of ours, errors of the baseline, whether each interval covers. Shapes [draws, figures]."""
    true = figures(grid.mean(axis=1))
    ours, baseline, covers = [], [], []
    for seed in range(draws):
        cells = sample_cells(*grid.shape, budget, seed, groups)
        found = estimate(np.where(cells, grid, np.nan), rng=np.random.default_rng([seed, 0]), groups=groups)
        intervals = [found.mean, *found.quantiles.values(), found.std]
        assert found.std is not None
        ours.append([i.value for i in intervals if i] - true)
        covers.append([i.low - 1e-9 <= t <= i.high + 1e-9 for i, t in zip(intervals, true, strict=True) if i])
        baseline.append(by_random_cells(grid, int(cells.sum()), seed) - true)
    return np.array(ours), np.array(baseline), np.array(covers)


def rms(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """In points, per figure."""
    return np.asarray(100 * np.sqrt((errors**2).mean(axis=0)))


def main() -> None:
    """Prints one line per budget, then the arms and seeds for which random cells did better."""
    run, draws = (sys.argv[1] if len(sys.argv) > 1 else "runs/demo"), int(sys.argv[2]) if len(sys.argv) > 2 else 200
    arms, groups = grids(run)
    shape = next(iter(arms.values())).shape
    print(
        f"{run}: {len(arms)} arms x seeds, {shape[0]} templates x {shape[1]} examples, {draws} draws each; error "
        "in points, ours / random cells\n"
    )
    print(
        "| budget | "
        + " | ".join(NAMES)
        + " | mean covered (lowest) | "
        + " | ".join(f"{n} covered" for n in NAMES[1:])
        + " |"
    )
    print("|---" * (2 * len(NAMES) + 1) + "|")
    worse = []
    for budget in BUDGETS:
        found = {name: draws_of(grid, groups, budget, draws) for name, grid in arms.items()}
        ours, baseline, covers = (np.concatenate([f[i] for f in found.values()]) for i in range(3))
        errors = " | ".join(f"{a:.1f} / {b:.1f}" for a, b in zip(rms(ours), rms(baseline), strict=True))
        covered, lowest = covers.mean(axis=0), min(f[2][:, 0].mean() for f in found.values())
        rest = " | ".join(f"{100 * c:.1f} %" for c in covered[1:])
        print(
            f"| {100 * budget:g} % | {errors} | {100 * covered[0]:.1f} % ({100 * lowest:.1f} %) | {rest} |", flush=True
        )
        worse += [
            f"{100 * budget:g} %, {arm}, {name}: {a:.1f} / {b:.1f}"
            for arm, f in found.items()
            for name, a, b in zip(NAMES, rms(f[0]), rms(f[1]), strict=True)
            if a >= b
        ]
    print("\nrandom cells no worse for: " + ("; ".join(worse) or "none"))


if __name__ == "__main__":
    main()
