"""Bootstrap intervals of spread over templates."""

import numpy as np
import pytest

from paft_ray import metrics
from paft_ray.metrics import ArmOutcomes, bootstrap
from tests.support.made_outcomes import arm

SETTINGS = {"num_bootstrap": 200, "confidence": 0.95}


def made_up(seed: int, spread: float, *, shape: tuple[int, int, int] = (1, 12, 50)) -> ArmOutcomes:
    rng = np.random.default_rng(seed)
    chance = np.clip(0.7 + rng.normal(0, spread, (shape[0], shape[1], 1)), 0, 1)
    return arm(rng.random(shape) < chance)


def test_a_draw_equals_a_plain_loop_over_resampled_rows() -> None:
    both = [made_up(0, 0.1, shape=(3, 12, 9)), made_up(1, 0.2, shape=(3, 12, 9))]
    found = bootstrap._drawn(both, np.random.default_rng(5), 4)
    rng = np.random.default_rng(5)
    seeds, templates = rng.integers(3, size=(4, 3)), rng.integers(12, size=(4, 12))
    counts = rng.multinomial(9, [1 / 9] * 9, size=4)
    for one, figures in zip(both, found, strict=True):
        for draw in range(4):
            rows = [one.correct[s][templates[draw]] for s in seeds[draw]]
            accuracy = [[np.repeat(row, counts[draw]).mean() for row in seed] for seed in rows]
            expected = [
                np.mean([np.std(seed, ddof=1) for seed in accuracy]),
                np.mean([np.quantile(seed, 0.1) for seed in accuracy]),
                np.mean([min(seed) for seed in accuracy]),
            ]
            assert figures[:, draw].tolist() == pytest.approx(expected)


def test_draws_do_not_depend_on_their_number_and_come_in_blocks() -> None:
    one = [made_up(0, 0.1)]
    few, many = (bootstrap._drawn(one, np.random.default_rng(0), n)[0] for n in (bootstrap.BLOCK, 2 * bootstrap.BLOCK))
    assert (few == many[:, : bootstrap.BLOCK]).all()


def test_an_arm_against_itself_has_the_ratio_one_and_no_difference() -> None:
    one = made_up(0, 0.1)
    found = metrics.spread_difference(one, one, rng=np.random.default_rng(0), **SETTINGS)
    assert found is not None
    assert found.std_ratio == metrics.Interval(value=1.0, low=1.0, high=1.0)
    assert found.decile == metrics.Interval(value=0.0, low=0.0, high=0.0)


def test_values_are_the_figures_of_the_arms_and_lie_in_their_intervals() -> None:
    first, second = made_up(0, 0.02, shape=(1, 30, 100)), made_up(1, 0.2, shape=(1, 30, 100))
    one, other = (metrics.figures(each, threshold=0.8) for each in (first, second))
    of_arm = metrics.spread_intervals(first, rng=np.random.default_rng(0), **SETTINGS)
    pair = metrics.spread_difference(first, second, rng=np.random.default_rng(0), **SETTINGS)
    assert of_arm is not None
    assert pair is not None
    assert (of_arm.std.value, of_arm.decile.value, of_arm.worst.value) == (one.std, one.decile, one.worst)
    assert pair.std_ratio is not None
    assert one.std is not None
    assert other.std is not None
    assert pair.std_ratio.value == pytest.approx(one.std / other.std)
    assert pair.decile.value == pytest.approx((one.decile or 0) - (other.decile or 0))
    for found in (of_arm.decile, pair.std_ratio, pair.decile):
        assert found.low <= found.value <= found.high
    assert pair.std_ratio.high < 1, "a tenth of the spread shows with 30 templates"


def test_few_templates_many_missing_cells_and_no_spread_have_no_interval() -> None:
    rng = np.random.default_rng(0)
    few = made_up(0, 0.1, shape=(1, 11, 50))
    assert metrics.spread_intervals(few, rng=rng, **SETTINGS) is None
    assert metrics.spread_difference(few, few, rng=rng, **SETTINGS) is None
    values = made_up(0, 0.1).correct.copy()
    values[:, :, ::5] = np.nan
    assert metrics.spread_intervals(arm(values), rng=rng, **SETTINGS) is None
    flat = arm(np.tile(np.arange(50) % 2, (12, 1)))
    found = metrics.spread_difference(made_up(0, 0.1), flat, rng=rng, **SETTINGS)
    assert found is not None
    assert found.std_ratio is None
    almost = np.tile(np.arange(50) % 2, (12, 1))
    almost[:2, 0] = 1  # in a tenth of the draws neither comes
    found = metrics.spread_difference(made_up(0, 0.1), arm(almost), rng=rng, **SETTINGS)
    assert found is not None
    assert found.std_ratio is None, "an interval without an upper end is none"
    with pytest.raises(ValueError, match="the same templates"):
        metrics.spread_difference(made_up(0, 0.1), few, rng=rng, **SETTINGS)


@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_the_interval_of_the_ratio_covers(ratio: float) -> None:
    """Of the expected raw ratio: on 50 rows the noise is in both stds."""
    rng = np.random.default_rng(4)
    noise = 0.4**2 / 50
    truth = np.sqrt((ratio * 0.15) ** 2 + noise) / np.sqrt(0.15**2 + noise)
    held = []
    for _ in range(150):
        pair = [
            arm(0.7 + rng.normal(0, 0.15 * scale, (12, 1)) + rng.normal(0, 0.4, (12, 50))) for scale in (ratio, 1.0)
        ]
        found = metrics.spread_difference(*pair, rng=rng, num_bootstrap=200, confidence=0.95)
        assert found is not None
        assert found.std_ratio is not None
        held.append(found.std_ratio.low <= truth <= found.std_ratio.high)
    assert np.mean(held) >= 0.92
