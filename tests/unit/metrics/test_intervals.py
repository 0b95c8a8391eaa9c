from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from paft_ray import metrics
from paft_ray.errors import UserError
from paft_ray.metrics import Difference
from tests.support.made_outcomes import arm


def gap(
    mean: float,
    low: float | None,
    high: float | None,
    *,
    p: float | None = 0.001,
    num_seeds: int = 1,
    detectable: float | None = 0.1,
) -> Difference:
    return Difference(
        first="paft",
        second="sft",
        mean=mean,
        low=low,
        high=high,
        confidence=0.95,
        p_value=p,
        p_adjusted=p,
        detectable=detectable,
        num_seeds=num_seeds,
        insufficient_data_reason=None if low is not None else "only 7 templates, at least 8 are needed",
    )


def test_the_difference_is_paired() -> None:
    sft = np.random.default_rng(6).random((12, 50)) < 0.5
    same = metrics.difference(arm(sft), arm(sft), confidence=0.95)
    assert (same.mean, same.low, same.p_value, same.detectable) == (0.0, None, None, None), (
        "equal arms differ nowhere once templates and examples are paired, which tells nothing of others"
    )
    other = arm(np.random.default_rng(7).random((12, 50)) < 0.7)
    found = metrics.difference(other, arm(sft), confidence=0.95)
    assert found.estimate == metrics.crossed_mean((other.correct - sft)[0])
    assert found.grid == "other templates and rows"
    with pytest.raises(ValueError, match="not measured on the same templates"):
        metrics.difference(other, arm(sft[:, :40]), confidence=0.95)


def test_seeds_are_a_third_level_and_pair_by_number() -> None:
    low, high = np.zeros((1, 12, 20)), np.ones((1, 12, 20))
    sft = arm(np.concatenate([low, low, low]), seeds=(0, 1, 2))
    paft = arm(np.concatenate([high, low, high]), seeds=(0, 1, 2))
    found = metrics.difference(paft, sft, confidence=0.95)
    theirs = stats.ttest_1samp([1, 0, 1], 0).confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((2 / 3, theirs.low, theirs.high))
    assert found.num_seeds == 3
    base = arm(low, seeds=(-1,))
    assert metrics.difference(paft, base, confidence=0.95).num_seeds == 3


def test_trainings_without_a_common_seed_are_two_samples() -> None:
    """Welch's test of their means, where nothing else varies."""
    low, high = np.zeros((1, 12, 20)), np.ones((1, 12, 20))
    paft = arm(np.concatenate([high, low, high]), seeds=(0, 1, 2))
    sft = arm(np.concatenate([low, high, low, low]), seeds=(7, 8, 9, 10))
    found = metrics.difference(paft, sft, confidence=0.95)
    theirs = stats.ttest_ind([1, 0, 1], [0, 1, 0, 0], equal_var=False).confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((2 / 3 - 1 / 4, theirs.low, theirs.high))
    assert found.num_seeds == 3
    one = metrics.difference(paft, arm(low, seeds=(7,)), confidence=0.95)
    assert (one.mean, one.num_seeds) == (pytest.approx(2 / 3), 1)


def test_a_cell_that_failed_in_one_arm_is_left_out_of_the_difference() -> None:
    rng = np.random.default_rng(8)
    paft, sft = rng.random((12, 30)), rng.random((12, 30))
    paft[0, 0] = np.nan
    values = (paft - sft).ravel()[1:]
    found = metrics.difference(arm(paft), arm(sft), confidence=0.95)
    assert found.mean == pytest.approx(values.mean())
    assert found.low is not None


def test_intervals_are_given_from_eight_templates_on() -> None:
    rng = np.random.default_rng(10)
    paft, sft = rng.random((8, 30)) < 0.9, rng.random((8, 30)) < 0.5
    enough = metrics.difference(arm(paft), arm(sft), confidence=0.95)
    assert enough.decisive
    assert metrics.mean_interval(arm(paft), confidence=0.95) is not None
    few = metrics.difference(arm(paft[:7]), arm(sft[:7]), confidence=0.95)
    assert few.mean > 0
    assert (few.low, few.high, few.p_value, few.p_adjusted, few.detectable, few.decisive) == (
        None,
        None,
        None,
        None,
        None,
        False,
    )
    assert metrics.verdict(few).endswith(
        "for these weights (one seed); no interval: only 7 templates, at least 8 are needed"
    )
    assert metrics.mean_interval(arm(paft[:7]), confidence=0.95) is None


def test_the_interval_of_a_mean_is_over_templates_examples_and_seeds() -> None:
    one = arm(np.random.default_rng(11).random((2, 9, 30)) < 0.7)
    expected = metrics.crossed_mean(one.correct.mean(axis=0), [one.correct.mean(axis=(1, 2))]).interval(0.9)
    assert metrics.mean_interval(one, confidence=0.9) == expected


def test_the_gain_over_the_average_single_template_holds_the_choice_of_the_template() -> None:
    rng = np.random.default_rng(12)
    paft = arm(np.full((12, 30), 0.8) + rng.normal(0, 0.01, (12, 30)))
    singles = [arm(np.full((12, 30), level) + rng.normal(0, 0.01, (12, 30))) for level in (0.64, 0.72, 0.67, 0.73, 0.6)]
    found = metrics.gain_over_average(paft, singles, confidence=0.95)
    assert found.mean == pytest.approx(0.8 - 0.672, abs=0.01)
    assert found.low is not None
    assert found.high is not None
    levels = stats.sem([0.64, 0.72, 0.67, 0.73, 0.6]) * stats.t.ppf(0.975, 4)
    assert found.high - found.mean == pytest.approx(levels, rel=0.1), "the five levels are the noise"
    assert (found.second, found.num_seeds) == ("the average single template", 1)
    alone = metrics.gain_over_average(paft, singles[:1], confidence=0.95)
    assert alone.estimate == metrics.difference(paft, singles[0], confidence=0.95).estimate
    with pytest.raises(ValueError, match="at least one"):
        metrics.gain_over_average(paft, [], confidence=0.95)


def test_holm_of_a_hand_computed_case() -> None:
    # sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1 -> 0.02, 0.03, 0.06, and 0.04 raised to 0.06
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.6, 0.9]) == [1.0, 1.0]
    assert metrics.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_raw_p_values_and_bonferroni_and_keeps_their_order(values: list[float]) -> None:
    adjusted = metrics.holm(values)
    assert all(p <= q <= min(1.0, p * len(values)) for p, q in zip(values, adjusted, strict=True))
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)
    assert min(adjusted) == pytest.approx(min(1.0, min(values) * len(values)))


def test_correction_counts_all_differences_that_have_a_p_value() -> None:
    found = metrics.corrected(
        {
            "a": gap(0.1, 0.02, 0.2, p=0.03),
            "b": gap(0.1, 0.05, 0.2, p=0.01),
            "c": gap(0.1, None, None, p=None, detectable=None),
        }
    )
    assert {name: one.p_adjusted for name, one in found.items()} == {"a": 0.03, "b": 0.02, "c": None}
    assert [one.decisive for one in found.values()] == [True, True, False]
    three = metrics.corrected({name: gap(0.1, 0.02, 0.2, p=0.03) for name in "abc"})
    assert not any(one.decisive for one in three.values()), "three chances at 0.03 are no evidence at 0.05"
    assert three["a"].p_value == 0.03


def test_the_primary_difference_is_not_corrected_and_does_not_count() -> None:
    family = {name: gap(0.1, 0.02, 0.2, p=0.02) for name in ("paft-sft", "paft-base", "sft-base")}
    found = metrics.corrected(family)
    assert [(one.p_adjusted, one.is_primary) for one in found.values()] == [(0.02, True), (0.04, False), (0.04, False)]
    other = metrics.corrected(family, "sft-base")
    assert [one.p_adjusted for one in other.values()] == [0.04, 0.04, 0.02]
    with pytest.raises(
        UserError, match=r"report\.primary=sft-paft: no such difference; these are: paft-sft, paft-base"
    ):
        metrics.corrected(family, "sft-paft")


def test_detectable_is_at_the_level_that_the_correction_leaves() -> None:
    rng = np.random.default_rng(13)
    arms = {name: arm(rng.random((12, 50)) < 0.6) for name in ("base", "sft", "paft")}
    pairs = [("paft", "sft"), ("paft", "base"), ("sft", "base")]
    alone = {f"{a}-{b}": metrics.difference(arms[a], arms[b], confidence=0.95, names=(a, b)) for a, b in pairs}
    found = metrics.corrected(alone)
    assert found["paft-sft"].detectable == alone["paft-sft"].detectable
    for name in ("paft-base", "sft-base"):
        estimate = alone[name].estimate
        assert estimate is not None
        assert found[name].detectable == estimate.detectable(0.95, 2) > (alone[name].detectable or 1)


@pytest.mark.parametrize(("better", "worse"), [(1.0, 0.0), (1.0, 1.0)])
def test_a_difference_that_is_the_same_in_every_cell_has_no_interval_and_says_so(better: float, worse: float) -> None:
    one, other = arm(np.full((12, 20), better)), arm(np.full((12, 20), worse))
    found = metrics.difference(one, other, confidence=0.95)
    assert (found.mean, found.low, found.high, found.p_value) == (better - worse, None, None, None)
    assert not found.decisive
    assert metrics.mean_interval(one, confidence=0.95) is None
    assert metrics.verdict(found).endswith(
        "no interval: the difference is the same in every cell, which tells nothing of others"
    )


def test_a_seed_without_a_common_cell_does_not_count() -> None:
    rng = np.random.default_rng(5)
    values = (rng.random((3, 12, 20)) < 0.6).astype(float)
    other = (rng.random((3, 12, 20)) < 0.5).astype(float)
    values[2] = np.nan
    found = metrics.difference(arm(values), arm(other), confidence=0.95)
    alone = metrics.difference(arm(values[:2]), arm(other[:2]), confidence=0.95)
    assert found == alone
    assert found.num_seeds == 2
    assert found.low is not None


INTERVAL = "on held-out templates (95 % interval"
SHOWN = "a true difference of 10.0 percentage points would have shown 8 times in 10, a smaller one less often"
WEIGHTS = "for these weights (one seed)"
SAME = "both have the same score in every cell"


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            gap(0.12, 0.05, 0.2),
            f"paft is 12.0 percentage points above sft {INTERVAL} 5.0 to 20.0), {WEIGHTS}",
        ),
        (
            gap(0.12, -0.01, 0.2, p=0.08),
            f"not decisive: paft is 12.0 percentage points above sft {INTERVAL} -1.0 to 20.0), {WEIGHTS}; {SHOWN}",
        ),
        (
            gap(0.12, 0.05, 0.2, num_seeds=3),
            f"paft is better than sft: 12.0 percentage points above it {INTERVAL} 5.0 to 20.0), over 3 seeds",
        ),
        (
            gap(0.12, 0.05, 0.2, num_seeds=2),
            f"paft is 12.0 percentage points above sft {INTERVAL} 5.0 to 20.0), over 2 seeds",
        ),
        (
            gap(-0.12, -0.2, -0.05, num_seeds=3),
            f"paft is 12.0 percentage points below sft {INTERVAL} -20.0 to -5.0), over 3 seeds",
        ),
        (
            gap(0.12, 0.01, 0.2, p=0.09, num_seeds=3),
            f"not decisive after correction for several comparisons: paft is 12.0 percentage points above "
            f"sft {INTERVAL} "
            f"1.0 to 20.0), over 3 seeds; {SHOWN}",
        ),
        (
            gap(0.0, 0.0, 0.0, p=1.0, detectable=0.0),
            f"not decisive: paft is 0.0 percentage points above sft {INTERVAL} 0.0 to 0.0), {WEIGHTS}; {SAME}",
        ),
        (
            gap(0.0, 0.0, 0.0, p=1.0, detectable=1e-17),
            f"not decisive: paft is 0.0 percentage points above sft {INTERVAL} 0.0 to 0.0), {WEIGHTS}; {SAME}",
        ),
        (
            replace(gap(0.12, 0.01, 0.2, p=0.03, num_seeds=3), p_adjusted=0.09),
            f"not decisive after correction for several comparisons: paft is 12.0 percentage points above "
            f"sft {INTERVAL} "
            f"1.0 to 20.0), over 3 seeds; {SHOWN}",
        ),
        (
            gap(0.12, None, None, p=None, detectable=None),
            f"paft is 12.0 percentage points above sft on held-out templates, {WEIGHTS}; no interval: "
            "only 7 templates, "
            "at least 8 are needed",
        ),
    ],
)
def test_the_verdict_says_no_more_than_the_evidence(found: Difference, sentence: str) -> None:
    assert metrics.verdict(found) == sentence
