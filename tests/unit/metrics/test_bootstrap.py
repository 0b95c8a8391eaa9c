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
    seeds, templates = rng.integers(3, size=(4, 2)), rng.integers(12, size=(4, 12))
    counts = rng.multinomial(9, [1 / 9] * 9, size=4)
    for one, figures in zip(both, found, strict=True):
        for draw in range(4):
            rows = [one.correct[s][templates[draw]] for s in seeds[draw]]
            accuracy = [[np.repeat(row, counts[draw]).mean() for row in seed] for seed in rows]
            expected = [
                np.mean(bootstrap._scale(one)[seeds[draw]] * [np.std(seed, ddof=1) for seed in accuracy]),
                np.mean([np.quantile(seed, 0.1) for seed in accuracy]),
                np.mean([min(seed) for seed in accuracy]),
            ]
            assert figures[:, draw].tolist() == pytest.approx(expected)


def test_draws_do_not_depend_on_their_number_and_come_in_blocks() -> None:
    one = [made_up(0, 0.1)]
    few, many = (bootstrap._drawn(one, np.random.default_rng(0), n)[0] for n in (bootstrap.BLOCK, 2 * bootstrap.BLOCK))
    assert (few == many[:, : bootstrap.BLOCK]).all()


def test_arms_that_differ_in_one_cell_have_a_ratio_near_one_and_hardly_a_difference() -> None:
    one = made_up(0, 0.1, shape=(3, 12, 50))
    values = one.correct.copy()
    values[0, 0, 0] = 1 - values[0, 0, 0]
    found = metrics.spread_difference(one, arm(values), rng=np.random.default_rng(0), **SETTINGS)
    assert found is not None
    assert found.std_ratio is not None
    assert 0.9 < found.std_ratio.low <= found.std_ratio.high < 1.1, "they share every draw"
    assert -0.01 < found.decile.low <= found.decile.high < 0.01


def test_where_nothing_differs_nothing_is_claimed() -> None:
    one, rng = made_up(0, 0.1), np.random.default_rng(0)
    assert metrics.spread_difference(one, one, rng=rng, **SETTINGS) is None
    right, wrong, uneven = (arm(np.tile(row, (12, 1))) for row in (np.ones(50), np.zeros(50), np.arange(50) % 2))
    assert metrics.spread_difference(right, wrong, rng=rng, **SETTINGS) is None, "the same difference in every cell"
    for flat in (right, wrong, uneven):
        assert metrics.spread_intervals(flat, rng=rng, **SETTINGS) is None, "no template differs from another"
        found = metrics.spread_difference(flat, one, rng=rng, **SETTINGS)
        assert found is not None
        assert found.std_ratio is None, "nor is a ratio of zero certain"
        assert found.decile.low < found.decile.high


def of_seeds(values: np.ndarray, seeds: tuple[int, ...]) -> ArmOutcomes:
    return arm(values, seeds=seeds)


def test_seeds_are_drawn_for_each_arm_that_has_several_and_together_where_they_are_the_same() -> None:
    """The seeds of the first arm alone differ: what that does to the interval of the ratio shows whether they are
    drawn."""
    rng = np.random.default_rng(3)
    base = rng.random((1, 24, 200)) < 0.7
    chance = np.clip(0.7 + np.array([0.02, 0.15, 0.3])[:, None, None] * rng.normal(0, 1, (1, 24, 1)), 0, 1)
    trained = rng.random((3, 24, 200)) < chance
    several, one = of_seeds(trained, (0, 1, 2)), of_seeds(base, (-1,))

    def ratio(first: ArmOutcomes, second: ArmOutcomes) -> tuple[float, float, float]:
        found = metrics.spread_difference(first, second, rng=np.random.default_rng(0), **SETTINGS)
        assert found is not None
        assert found.std_ratio is not None
        return found.std_ratio.low, found.std_ratio.value, found.std_ratio.high

    low, value, high = ratio(several, one)
    std = metrics.figures(several, threshold=0.8).std
    assert value == pytest.approx((std or 0) / (metrics.figures(one, threshold=0.8).std or 1))
    alone = [ratio(of_seeds(trained[[seed]], (seed,)), one)[1] for seed in range(3)]
    assert low < sorted(alone)[1] * 0.75, "two seeds of small spread can be drawn"
    assert high > sorted(alone)[1] * 1.4
    back = ratio(one, several)
    assert (1 / back[2], 1 / back[0]) == pytest.approx((low, high), rel=0.15)
    same = ratio(several, of_seeds(trained[:, ::-1], (0, 1, 2)))
    assert same[0] > 0.5, "the seeds of both are drawn together"
    assert same[2] < 2


def test_figures_of_a_pair_are_of_the_seeds_that_both_have() -> None:
    first, second = made_up(0, 0.1, shape=(3, 12, 50)), made_up(1, 0.2)
    settings = {"rng": np.random.default_rng(0), **SETTINGS}
    found = metrics.spread_difference(first, second, **settings)
    alone = of_seeds(first.correct[:1], (0,))
    assert found == metrics.spread_difference(alone, second, **{**settings, "rng": np.random.default_rng(0)})


def test_without_a_common_seed_seeds_are_drawn_apart() -> None:
    first, second = made_up(0, 0.1, shape=(3, 12, 50)), made_up(1, 0.2, shape=(2, 12, 50))
    apart = of_seeds(second.correct, (7, 8))
    found = metrics.spread_difference(first, apart, rng=np.random.default_rng(0), **SETTINGS)
    assert found is not None
    assert found.std_ratio is not None
    std, other = (metrics.figures(each, threshold=0.8).std or 0 for each in (first, apart))
    assert found.std_ratio.value == pytest.approx(std / other), "all seeds of both"


@pytest.mark.parametrize(("templates", "examples"), [(24, 40), (12, 50)])
def test_draws_of_a_noisy_arm_vary_around_its_std(templates: int, examples: int) -> None:
    """Without a correction they hold the noise of the test set twice: std above it by a fifth."""
    rng = np.random.default_rng(6)
    shares = []
    for _ in range(40):
        noisy = arm(rng.random((templates, examples)) < 0.7)
        [drawn] = bootstrap._drawn([noisy], rng, 100)
        shares.append(drawn[0].mean() / noisy.by_template.std(ddof=1))
    assert np.mean(shares) == pytest.approx(1, abs=0.06)


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
