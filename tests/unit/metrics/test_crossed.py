"""The t interval of a mean whose templates, examples and seeds are samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from paft_ray.metrics import MeanEstimate, crossed_mean
from paft_ray.metrics.cell_sampling import sample_cells

DEMO = (0.12, 0.18, 0.45)
"""Standard deviations of template, example and cell in the demo's paft - sft."""


def made_up(
    rng: np.random.Generator, shape: tuple[int, int], spread: tuple[float, float, float]
) -> NDArray[np.float64]:
    of_template, of_example, of_cell = spread
    return np.asarray(
        rng.normal(0, of_template, (shape[0], 1)) + rng.normal(0, of_example, shape[1]) + rng.normal(0, of_cell, shape)
    )


def covers(found: MeanEstimate, truth: float) -> bool:
    low, high = found.interval(0.95)
    return low <= truth <= high


def test_a_complete_grid_is_the_two_way_analysis_of_variance() -> None:
    values = made_up(np.random.default_rng(0), (9, 30), (0.3, 0.3, 0.5))
    mean = values.mean()
    of_template, of_example = (values.mean(axis=axis).var(ddof=1) / size for axis, size in ((1, 9), (0, 30)))
    residual = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + mean
    of_cell = (residual**2).sum() / (8 * 29) / 270
    variance = of_template + of_example - of_cell
    found = crossed_mean(values)
    assert (found.value, found.standard_error) == pytest.approx((mean, np.sqrt(variance)))
    assert found.freedom == pytest.approx(variance**2 / (of_template**2 / 8 + of_example**2 / 29))


def test_where_only_templates_vary_it_is_the_t_test_over_templates() -> None:
    gains = np.random.default_rng(1).normal(0.1, 0.2, 12)
    found = crossed_mean(np.repeat(gains[:, None], 40, axis=1))
    theirs = stats.ttest_1samp(gains, 0)
    assert found.p_value == pytest.approx(theirs.pvalue)
    assert found.interval(0.9) == pytest.approx(tuple(theirs.confidence_interval(0.9)))


def test_seeds_are_a_third_axis_where_there_are_several() -> None:
    cells, means = np.full((12, 20), 0.1), np.array([0.0, 0.1, 0.2])
    found, theirs = crossed_mean(cells, [means]), stats.ttest_1samp(means, 0)
    assert found.interval(0.95) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert not crossed_mean(cells, [means[:1]]).has_variance, "a single seed says nothing of others"
    gap = crossed_mean(cells, [np.append(means, np.nan)])
    assert gap == found, "a seed without a cell is none"
    two = crossed_mean(cells, [means, means + 1])
    assert two.standard_error == pytest.approx(np.sqrt(2) * found.standard_error)
    assert two.freedom == pytest.approx(4)


@pytest.mark.parametrize("cells", [np.zeros((12, 20)), np.full((12, 20), 0.1), np.array([[0.3]])])
def test_cells_that_are_all_the_same_tell_nothing_of_others(cells: NDArray[np.float64]) -> None:
    found = crossed_mean(cells, [np.array([np.nan, cells[0, 0]])])
    assert not found.has_variance
    assert found.value == pytest.approx(cells[0, 0])
    assert (found.interval(0.95), found.p_value) == ((-np.inf, np.inf), 1.0)
    assert found.detectable(0.95) == np.inf


def test_a_mean_needs_a_cell() -> None:
    with pytest.raises(ValueError, match="at least one cell"):
        crossed_mean(np.full((3, 4), np.nan))


@given(st.integers(0, 2**31), st.floats(0.0, 0.6), st.integers(2, 9), st.integers(1, 9))
def test_any_pattern_of_cells_gives_an_interval_around_the_mean_that_ignores_order(
    seed: int, absent: float, templates: int, examples: int
) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.random((templates, examples)) < 0.5).astype(float)
    values[rng.random(values.shape) < absent] = np.nan
    if np.isnan(values).all():
        return
    found = crossed_mean(values)
    low, high = found.interval(0.95)
    assert low <= found.value <= high
    assert 0 <= found.p_value <= 1
    assert found.freedom >= 1
    moved = crossed_mean(values[rng.permutation(templates)][:, rng.permutation(examples)])
    assert moved.standard_error == pytest.approx(found.standard_error, abs=1e-7)


@pytest.mark.parametrize(("shape", "budget"), [((12, 50), 1.0), ((12, 50), 0.2), ((12, 50), 0.1), ((50, 200), 0.02)])
def test_a_budget_does_not_throw_power_away(shape: tuple[int, int], budget: float) -> None:
    """The standard error is that of the mean, however few cells were asked."""
    rng = np.random.default_rng(2)
    found = []
    for seed in range(300):
        asked = sample_cells(*shape, budget, seed, np.arange(shape[1]) % 2)
        found.append(crossed_mean(np.where(asked, made_up(rng, shape, DEMO), np.nan)))
    error = np.sqrt(np.mean([each.standard_error**2 for each in found]))
    assert error / np.std([each.value for each in found]) == pytest.approx(1, abs=0.12)
    assert np.mean([covers(each, 0) for each in found]) == pytest.approx(0.955, abs=0.03)


@pytest.mark.parametrize("comparisons", [1, 3, 6])
def test_a_true_difference_as_large_as_detectable_shows_eight_times_in_ten(comparisons: int) -> None:
    rng = np.random.default_rng(3)
    effect = np.mean([crossed_mean(made_up(rng, (12, 50), DEMO)).detectable(0.95, comparisons) for _ in range(200)])
    shown = [crossed_mean(made_up(rng, (12, 50), DEMO) + effect).p_value < 0.05 / comparisons for _ in range(500)]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.06)
