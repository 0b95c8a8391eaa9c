from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from paft_ray import metrics
from paft_ray.metrics import Difference, intervals
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


def test_bootstrap_over_one_axis_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).normal(size=40)
    ours = metrics.bootstrap_interval(
        values[None, None, :], rng=np.random.default_rng(2), num_bootstrap=20_000, confidence=0.9
    )
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=np.random.default_rng(3)
    )
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.01)


def test_bootstrap_equals_a_plain_loop_over_resampled_indices() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(size=(3, 5, 7))
    weights = [rng.multinomial(n, np.full(n, 1 / n), size=6) for n in values.shape]
    expected = []
    for s, t, e in zip(*weights, strict=True):
        axes = [np.repeat(np.arange(len(counts)), counts) for counts in (s, t, e)]
        expected.append(values[np.ix_(*axes)].sum())
    assert intervals._weighted_sum(values, [w.astype(float) for w in weights]) == pytest.approx(expected)


def test_the_interval_is_paired_and_seeded() -> None:
    sft = np.random.default_rng(6).random((12, 50)) < 0.5
    same = metrics.difference(arm(sft), arm(sft), rng=np.random.default_rng(0), num_bootstrap=200, confidence=0.95)
    assert (same.mean, same.low, same.high, same.p_value, same.detectable) == (0.0, 0.0, 0.0, 1.0, 0.0), (
        "equal arms differ nowhere once templates and examples are paired"
    )
    other = arm(np.random.default_rng(7).random((12, 50)) < 0.7)
    again = [
        metrics.difference(other, arm(sft), rng=np.random.default_rng(1), num_bootstrap=200, confidence=0.95)
        for _ in range(2)
    ]
    assert again[0] == again[1]


def test_seeds_are_a_third_level_and_pair_by_number() -> None:
    low, high = np.zeros((1, 12, 20)), np.ones((1, 12, 20))
    sft = arm(np.concatenate([low, low, low]), seeds=(0, 1, 2))
    paft = arm(np.concatenate([high, low, high]), seeds=(0, 1, 2))
    found = metrics.difference(paft, sft, rng=np.random.default_rng(0), num_bootstrap=500, confidence=0.95)
    assert (found.mean, found.low, found.high, found.num_seeds) == (pytest.approx(2 / 3), 0.0, 1.0, 3)
    base = arm(low, seeds=(-1,))
    assert (
        metrics.difference(paft, base, rng=np.random.default_rng(0), num_bootstrap=50, confidence=0.95).num_seeds == 3
    )
    with pytest.raises(ValueError, match="no seed in common"):
        metrics.difference(
            paft, arm(sft.correct, seeds=(7, 8, 9)), rng=np.random.default_rng(0), num_bootstrap=50, confidence=0.95
        )


def test_intervals_are_given_from_eight_templates_on() -> None:
    rng = np.random.default_rng(10)
    paft, sft = rng.random((8, 30)) < 0.9, rng.random((8, 30)) < 0.5
    enough = metrics.difference(arm(paft), arm(sft), rng=rng, num_bootstrap=500, confidence=0.95)
    assert enough.decisive
    assert metrics.mean_interval(arm(paft), rng=rng, num_bootstrap=100, confidence=0.95) is not None
    few = metrics.difference(arm(paft[:7]), arm(sft[:7]), rng=rng, num_bootstrap=500, confidence=0.95)
    assert few.mean > 0
    assert (few.low, few.high, few.p_value, few.p_adjusted, few.detectable, few.decisive) == (
        None,
        None,
        None,
        None,
        None,
        False,
    )
    assert metrics.verdict(few).endswith("on this seed; no interval: only 7 templates, at least 8 are needed")
    assert metrics.mean_interval(arm(paft[:7]), rng=rng, num_bootstrap=100, confidence=0.95) is None


def test_the_interval_of_a_mean_resamples_templates_examples_and_seeds() -> None:
    one = arm(np.random.default_rng(11).random((2, 9, 30)) < 0.7)
    found = metrics.mean_interval(one, rng=np.random.default_rng(0), num_bootstrap=400, confidence=0.9)
    assert found == metrics.bootstrap_interval(
        one.correct, rng=np.random.default_rng(0), num_bootstrap=400, confidence=0.9
    )


def test_the_p_value_agrees_with_a_t_test_where_only_templates_vary() -> None:
    shift = stats.norm.ppf(np.arange(1, 60) / 60)  # 59 templates, the same gain on every example
    for mean in (0.1, 0.2, 0.3):
        values = np.repeat((mean + shift)[:, None], 2, axis=1)
        found = metrics.difference(
            arm(values),
            arm(np.zeros_like(values)),
            rng=np.random.default_rng(12),
            num_bootstrap=20_000,
            confidence=0.95,
        )
        assert found.p_value == pytest.approx(stats.ttest_1samp(mean + shift, 0).pvalue, abs=0.02)
        assert found.detectable == pytest.approx((1.959964 + 0.841621) * shift.std() / np.sqrt(59), rel=0.03)


def test_p_value_and_interval_tell_the_same_story() -> None:
    rng = np.random.default_rng(13)
    sides = set()
    for _ in range(30):
        sft = rng.random((10, 40)) < 0.6
        paft = sft | (rng.random((10, 40)) < rng.uniform(0, 0.1))
        paft &= rng.random((10, 40)) > 0.05
        found = metrics.difference(arm(paft), arm(sft), rng=rng, num_bootstrap=999, confidence=0.95)
        assert found.p_value is not None
        if abs(found.p_value - 0.05) > 0.005:
            assert found.excludes_zero == (found.p_value < 0.05)
            sides.add(found.excludes_zero)
    assert sides == {True, False}, "both happened"


def test_a_true_difference_as_large_as_detectable_comes_out_decisive_four_times_in_five() -> None:
    rng = np.random.default_rng(14)
    error = 0.25 / np.sqrt(20)
    effect = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * error
    decisive, reported = [], []
    for _ in range(300):
        values = np.repeat(rng.normal(effect, 0.25, (20, 1)), 2, axis=1)
        found = metrics.difference(arm(values), arm(np.zeros_like(values)), rng=rng, num_bootstrap=400, confidence=0.95)
        decisive.append(found.decisive)
        reported.append(found.detectable)
    assert np.mean(decisive) == pytest.approx(0.8, abs=0.08)
    assert np.mean(reported) == pytest.approx(effect, rel=0.05)


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


INTERVAL = "on held-out templates (95 % interval"
SHOWN = (
    "a true difference of 10.0 percentage points would have come out decisive 8 times in 10, a smaller one less often"
)
SAME = "both are right in the same places"


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (gap(0.12, 0.05, 0.2), f"paft is 12.0 percentage points above sft {INTERVAL} 5.0 to 20.0), on this seed"),
        (
            gap(0.12, -0.01, 0.2, p=0.08),
            f"not decisive: paft is 12.0 percentage points above sft {INTERVAL} -1.0 to 20.0), on this seed; {SHOWN}",
        ),
        (
            gap(0.12, 0.05, 0.2, num_seeds=3),
            f"paft is better than sft: 12.0 percentage points above it {INTERVAL} 5.0 to 20.0), over 3 seeds",
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
            f"not decisive: paft is 0.0 percentage points above sft {INTERVAL} 0.0 to 0.0), on this seed; {SAME}",
        ),
        (
            gap(0.0, 0.0, 0.0, p=1.0, detectable=1e-17),
            f"not decisive: paft is 0.0 percentage points above sft {INTERVAL} 0.0 to 0.0), on this seed; {SAME}",
        ),
        (
            replace(gap(0.12, 0.01, 0.2, p=0.03, num_seeds=3), p_adjusted=0.09),
            f"not decisive after correction for several comparisons: paft is 12.0 percentage points above "
            f"sft {INTERVAL} "
            "1.0 to 20.0), over 3 seeds; " + SHOWN.replace("in 10,", "in 10 before correction,"),
        ),
        (
            gap(0.12, None, None, p=None, detectable=None),
            "paft is 12.0 percentage points above sft on held-out templates, on this seed; no interval: "
            "only 7 templates, "
            "at least 8 are needed",
        ),
    ],
)
def test_the_verdict_says_no_more_than_the_evidence(found: Difference, sentence: str) -> None:
    assert metrics.verdict(found) == sentence
