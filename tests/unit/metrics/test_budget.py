"""Budgeted evaluation: which cells are asked, and what the seen ones say about the whole grid."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from paft_ray.config import load_config, parse_config
from paft_ray.errors import UserError
from paft_ray.metrics.budget import estimate
from paft_ray.metrics.cell_sampling import answer_strata, num_cells, sample_cells
from paft_ray.stages.evaluate import asked_cells
from paft_ray.tasks.task import Example


def made_up_grid(num_templates: int, num_examples: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Answers of a model for which some templates favour one of two labels."""
    rng = np.random.default_rng(seed)
    groups = np.arange(num_examples) % 2
    favour = rng.normal(0, 2, num_templates)[:, None] * (2 * groups - 1)
    logits = 1 + rng.normal(0, 0.5, (num_templates, 1)) + favour + rng.normal(0, 1, num_examples)
    return (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float), groups


def seen_part(grid: NDArray[np.float64], groups: NDArray[np.int64], budget: float, seed: int) -> NDArray[np.float64]:
    return np.where(sample_cells(*grid.shape, budget, seed, groups), grid, np.nan)


@given(
    num_templates=st.integers(1, 20),
    groups=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    budget=st.floats(0.001, 1),
    seed=st.integers(0, 2**31 - 1),
)
def test_cells_are_spread_evenly_over_templates_examples_and_answers(
    num_templates: int, groups: list[int], budget: float, seed: int
) -> None:
    codes = np.unique(groups, return_inverse=True)[1]
    cells = sample_cells(num_templates, len(groups), budget, seed, codes)
    assert cells.sum() == num_cells(num_templates, len(groups), budget)
    assert np.ptp(cells.sum(axis=1)) <= 1
    assert cells.sum(axis=1).min() >= 1
    for code in range(codes.max() + 1):
        members = codes == code
        assert np.ptp(cells[:, members].sum(axis=0)) <= 1
        assert np.abs(cells[:, members].sum(axis=1) - cells.sum(axis=1) * members.mean()).max() < codes.max() + 1
        assert abs(cells[:, members].sum() - cells.sum() * members.mean()) < codes.max() + 1
    assert (cells == sample_cells(num_templates, len(groups), budget, seed, codes)).all()


def test_another_seed_asks_other_cells_and_every_cell_has_the_same_chance() -> None:
    groups = np.arange(20) % 2
    draws = np.array([sample_cells(8, 20, 0.2, seed, groups) for seed in range(400)])
    assert len({draw.tobytes() for draw in draws}) > 390
    assert np.abs(draws.mean(axis=0) - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / len(draws))


@pytest.mark.parametrize("budget", [0.0, -0.1, 1.1])
def test_a_budget_out_of_range_is_refused(budget: float) -> None:
    with pytest.raises(ValueError, match="must be above 0 and at most 1"):
        sample_cells(3, 4, budget, 0)


def test_answers_that_few_examples_share_are_one_group() -> None:
    assert answer_strata(["a"] * 5 + ["b"] * 6 + ["c", "d"]).tolist() == [1] * 5 + [2] * 6 + [0, 0]
    assert set(answer_strata([str(n) for n in range(40)]).tolist()) == {0}


def test_a_whole_grid_is_its_own_estimate() -> None:
    grid, groups = made_up_grid(12, 30, 0)
    found = estimate(grid, rng=np.random.default_rng(0), groups=groups)
    accuracy = grid.mean(axis=1)
    assert found.mean.low == found.mean.high == pytest.approx(found.mean.value) == pytest.approx(grid.mean())
    assert [t.value for t in found.by_template] == pytest.approx(accuracy.tolist())
    assert [q.value for q in found.quantiles.values()] == pytest.approx(
        np.quantile(accuracy, list(found.quantiles)).tolist()
    )
    assert found.std is not None
    assert found.std.value == pytest.approx(accuracy.std(ddof=1))
    assert found.budget == 1


@pytest.mark.parametrize(("seen", "side"), [(1.0, "high"), (0.0, "low")])
def test_all_right_or_all_wrong_leaves_room_for_the_unseen_cells(seen: float, side: str) -> None:
    found = estimate(seen_part(np.full((12, 40), seen), np.zeros(40, dtype=int), 0.05, 0), rng=np.random.default_rng(0))
    assert abs(found.mean.value - seen) < 0.05
    assert 0.05 < found.mean.high - found.mean.low < 0.3
    assert getattr(found.mean, side) == pytest.approx(seen, abs=0.01)


def test_one_template_has_no_spread_and_no_seen_cell_is_refused() -> None:
    grid, groups = made_up_grid(1, 40, 1)
    found = estimate(seen_part(grid, groups, 0.5, 0), rng=np.random.default_rng(0), groups=groups)
    assert found.std is None
    assert found.mean.low <= grid.mean() <= found.mean.high
    with pytest.raises(ValueError, match="no cell"):
        estimate(np.full((3, 4), np.nan), rng=np.random.default_rng(0))


def test_a_mean_over_seeds_may_stand_in_a_cell() -> None:
    grid = np.mean([made_up_grid(12, 40, 2)[0], made_up_grid(12, 40, 3)[0]], axis=0)
    found = estimate(seen_part(grid, np.arange(40) % 2, 0.3, 0), rng=np.random.default_rng(0), groups=np.arange(40) % 2)
    assert found.mean.low <= grid.mean() <= found.mean.high


@pytest.mark.slow
def test_intervals_cover_and_errors_are_below_those_of_random_cells() -> None:
    """On made-up answers; on real ones it is benchmarks/budget.py."""
    ours, random, covered = [], [], []
    for seed in range(24):
        grid, groups = made_up_grid(12, 40, seed)
        seen = seen_part(grid, groups, 0.15, seed)
        found = estimate(seen, rng=np.random.default_rng(seed), groups=groups)
        accuracy = grid.mean(axis=1)
        covered.append(found.mean.low <= accuracy.mean() <= found.mean.high)
        mask = np.zeros(grid.size, dtype=bool)
        mask[np.random.default_rng(seed).choice(grid.size, int((~np.isnan(seen)).sum()), replace=False)] = True
        mask = mask.reshape(grid.shape)
        raw = np.where(mask.any(axis=1), (grid * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1), grid[mask].mean())
        ours.append([found.mean.value - accuracy.mean(), *np.array([t.value for t in found.by_template]) - accuracy])
        random.append([raw.mean() - accuracy.mean(), *raw - accuracy])
    assert np.mean(covered) >= 0.9
    errors, peers = (np.sqrt(np.mean(np.square(found), axis=0)) for found in (ours, random))
    assert errors[0] < peers[0]
    assert errors[1:].mean() < 0.8 * peers[1:].mean()


def test_evaluation_is_another_name_of_the_section_in_file_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: a\ntask: demo\nevaluation: {budget: 0.5, latency_sample_rows: 3}\n")
    assert load_config(path, ["evaluation.budget=0.1"]).evaluate == load_config(path, ["evaluate.budget=0.1"]).evaluate
    assert load_config(path, ["evaluation.budget=0.1"]).evaluate.model_dump() == {
        **load_config(path).evaluate.model_dump(),
        "budget": 0.1,
    }
    assert load_config(path).evaluate.latency_sample_rows == 3
    with pytest.raises(UserError, match=r"evaluate\.budget: .*greater than 0"):
        load_config(path, ["evaluation.budget=0"])
    path.write_text("name: a\ntask: demo\nevaluation: {budget: 0.5}\nevaluate: {latency_sample_rows: 3}\n")
    with pytest.raises(UserError, match="evaluation and evaluate are the same section"):
        load_config(path)


def test_the_cells_of_a_run_follow_its_seed_and_budget_alone() -> None:
    examples = [Example(id=str(n), fields={"text": "t"}, answer="yes" if n % 2 else "no") for n in range(20)]
    settings = parse_config({"name": "a", "task": "demo", "seed": 3}, "x")
    assert asked_cells(settings, 12, examples) is None
    part = settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update={"budget": 0.25})})
    first, again = asked_cells(part, 12, examples), asked_cells(part, 12, examples)
    assert first is not None
    assert again is not None
    assert first.sum() == 60
    assert (first == again).all()
    assert (first != asked_cells(part.model_copy(update={"seed": 4}), 12, examples)).any()
