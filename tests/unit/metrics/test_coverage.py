"""How often intervals hold the truth: a small part of benchmarks/coverage.py, held to its bar."""

import pytest

from benchmarks import coverage

NUM_WORLDS = 200
HELD = (
    "Gaussian, demo's variances, 8 x 50",
    "Gaussian, templates alone vary, 12 x 50",
    "Gaussian, 10 % of 12 x 50 cells",
    "three seeds, 12 x 50",
    "binary, 8 / 45 % of templates fail, 12 x 50",
    "binary, 45 / 45 % of templates fail, 12 x 872",
    "binary, 10 / 10 % of templates fail, 12 x 872",
    "binary, 3 / 10 % of templates fail, 12 x 872",
    "binary, 3 / 3 % of templates fail, 8 x 50",
)


@pytest.mark.parametrize("world", [world for world in coverage.worlds() if world.name in HELD], ids=lambda w: w.name)
def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says(world: coverage.World) -> None:
    line = coverage.measure(world, NUM_WORLDS)
    assert line.within(world.bar), line
    assert line.se_ratio == pytest.approx(1, abs=0.16), "no power is thrown away"


def test_an_interval_of_one_seed_is_for_these_weights_alone() -> None:
    lines = {world.name: coverage.measure(world, NUM_WORLDS) for world in coverage.worlds() if "one seed" in world.name}
    assert lines["one seed, truth of these weights, 12 x 872"].within(coverage.USUAL)
    assert lines["one seed, truth of other seeds, 12 x 872"].coverage < 0.93


def test_the_bar_finds_an_interval_that_is_too_short() -> None:
    assert not coverage.Line(coverage=0.88, error=0.01, se_ratio=1.0).within(coverage.USUAL)
    assert coverage.Line(coverage=0.92, error=0.01, se_ratio=1.0).within(coverage.USUAL)
    assert not coverage.Line(coverage=0.995, error=0.01, se_ratio=1.0).within(coverage.USUAL)


def test_intervals_of_spread_hold_the_truth_where_some_templates_fail() -> None:
    for name, line in coverage.spread(24, 40, (0.2, 0.2), 60).items():
        assert line.within((0.9, 1.0)), name


def test_intervals_of_spread_hold_the_truth_of_other_seeds_where_only_one_arm_has_several() -> None:
    for name, line in coverage.spread(24, 40, (0.2, 0.2), 100, seeds=(3, 1)).items():
        assert line.within((0.9, 1.0)), name


def test_every_named_world_is_there() -> None:
    assert set(HELD) <= {world.name for world in coverage.worlds()}
