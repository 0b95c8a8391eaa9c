"""The spread over the levels of an axis, recovered from made-up accuracies whose variances are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from paft_ray.metrics.axes import AxisSpread, axis_spread, level_change

TIMES = 400


def made_up(
    rng: np.random.Generator, shape: tuple[int, int, int], *, level: float, own: float = 0.0
) -> NDArray[np.float64]:
    """`level`: std of what a level does to all templates alike, `own`: to each."""
    bases, levels, examples = shape
    return np.asarray(
        0.6
        + rng.normal(0, 0.1, (bases, 1, 1))
        + rng.normal(0, level, (levels, 1))
        + rng.normal(0, own, (bases, levels, 1))
        + rng.normal(0, 0.2, examples)
        + rng.normal(0, 0.4, shape)
    )


@pytest.mark.parametrize(("level", "own"), [(0.05, 0.0), (0.15, 0.0), (0.0, 0.1), (0.1, 0.1)])
def test_recovers_a_known_spread(level: float, own: float) -> None:
    rng = np.random.default_rng(0)
    found = [axis_spread(made_up(rng, (6, 6, 60), level=level, own=own), confidence=0.95) for _ in range(TIMES)]
    variances = np.mean([spread.std**2 for spread in found if spread])
    assert np.sqrt(variances) == pytest.approx(np.hypot(level, own), rel=0.08)


@pytest.mark.parametrize("shape", [(6, 6, 60), (1, 24, 40), (6, 3, 40)])
@pytest.mark.parametrize(("level", "own"), [(0.02, 0.0), (0.1, 0.0), (0.05, 0.05), (0.0, 0.1)])
def test_its_interval_holds_the_truth_as_often_as_it_says(
    shape: tuple[int, int, int], level: float, own: float
) -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(TIMES):
        spread = axis_spread(made_up(rng, shape, level=level, own=own), confidence=0.95)
        assert spread
        assert spread.low is not None
        assert spread.high is not None
        held += spread.low <= np.hypot(level, own) <= spread.high
    assert 0.92 <= held / TIMES <= 1.0


def test_one_template_is_the_one_way_analysis_of_levels() -> None:
    """By hand: the variance of 24 means, less the noise of each."""
    cells = made_up(np.random.default_rng(5), (1, 24, 40), level=0.1)
    rest = cells[0] - cells[0].mean(axis=1, keepdims=True) - cells[0].mean(axis=0) + cells.mean()
    noise = (rest**2).sum() / (23 * 39) / 40
    spread = axis_spread(cells, confidence=0.95)
    assert spread
    assert spread.std**2 == pytest.approx(cells[0].mean(axis=1).var(ddof=1) - noise)


def test_nothing_moves_where_only_noise_does() -> None:
    rng = np.random.default_rng(2)
    found = [axis_spread(made_up(rng, (6, 6, 60), level=0.0), confidence=0.95) for _ in range(TIMES)]
    assert np.mean([spread.low == 0 for spread in found if spread]) > 0.94
    assert np.median([spread.std for spread in found if spread]) < 0.03


def test_right_and_wrong_answers_are_values_like_others() -> None:
    rng = np.random.default_rng(3)
    chance = np.clip(0.7 + rng.normal(0, 0.1, (300, 6, 1)), 0, 1)
    cells = (rng.random((300, 6, 50)) < chance).astype(float)
    spread = axis_spread(cells, confidence=0.95)
    assert spread
    assert spread.std == pytest.approx(0.1, abs=0.012)


def test_too_few_cells_give_none_and_two_levels_no_interval() -> None:
    cells = np.ones((2, 3, 4))
    alike = axis_spread(cells, confidence=0.95)
    assert alike == AxisSpread(std=0.0, low=None, high=None, num_templates=2, num_levels=3)
    assert axis_spread(cells[:, :1], confidence=0.95) is None
    assert axis_spread(cells[:, :, :1], confidence=0.95) is None
    two = axis_spread(made_up(np.random.default_rng(6), (6, 2, 40), level=0.1), confidence=0.95)
    assert two
    assert two.low is None


def test_an_example_that_lacks_a_cell_is_left_out() -> None:
    cells = made_up(np.random.default_rng(7), (6, 6, 40), level=0.1)
    whole = axis_spread(cells[:, :, 1:], confidence=0.95)
    cells[2, 3, 0] = np.nan
    assert axis_spread(cells, confidence=0.95) == whole


def test_a_level_s_change_is_paired() -> None:
    rng = np.random.default_rng(4)
    without = rng.random((6, 40))
    change = level_change(without - 0.1 + rng.normal(0, 0.01, (6, 40)), without, confidence=0.95)
    assert change.low is not None
    assert change.high is not None
    assert change.low < -0.1 < change.high < -0.09
    assert level_change(without, without, confidence=0.95).low is None
