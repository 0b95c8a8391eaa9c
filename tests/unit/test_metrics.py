import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paft_ray import metrics
from paft_ray.metrics import ArmOutcomes, intervals


def arm(correct: np.ndarray, predicted: np.ndarray | None = None, seeds: tuple[int, ...] | None = None) -> ArmOutcomes:
    correct = np.asarray(correct, dtype=float)
    correct = correct if correct.ndim == 3 else correct[None]
    if predicted is not None:
        predicted = np.asarray(predicted)
        predicted = predicted if predicted.ndim == 3 else predicted[None]
    num_seeds, templates, examples = correct.shape
    return ArmOutcomes(
        template_ids=tuple(f"t{i:03}" for i in range(templates)),
        example_ids=tuple(f"e{i:03}" for i in range(examples)),
        seeds=seeds or tuple(range(num_seeds)),
        correct=correct,
        predicted=predicted,
    )


def accuracies(values: list[float], num_examples: int) -> ArmOutcomes:
    """Templates whose first share of examples is right."""
    return arm(np.array([np.arange(num_examples) < round(v * num_examples) for v in values]))


def test_figures_of_a_hand_computed_case() -> None:
    found = metrics.figures(accuracies([0.5] * 6 + [1.0] * 6, 10), threshold=0.5)
    assert found.mean == pytest.approx(0.75)
    assert found.std == pytest.approx(np.sqrt(12 * 0.0625 / 11))
    assert found.worst == 0.5
    assert found.best == 1.0
    assert found.share_above == 0.5, "a template at the threshold is not above it"
    # noise: mean of p (1 - p) / (n - 1) = (0.25 / 9 + 0) / 2
    assert found.std_noise_corrected == pytest.approx(np.sqrt(12 * 0.0625 / 11 - 0.25 / 18))
    assert (found.num_templates, found.num_examples, found.num_seeds, found.refused) == (12, 10, 1, None)


def test_std_agrees_with_scipy() -> None:
    values = [0.1, 0.9, 0.4, 0.3, 0.8, 0.2, 0.6, 0.7, 0.5, 0.5, 1.0, 0.0]
    found = metrics.figures(accuracies(values, 10), threshold=0.8)
    assert found.std == pytest.approx(stats.tstd(values))
    assert found.mean == pytest.approx(stats.describe(values).mean)


def test_seeds_are_averaged_per_template_before_the_spread_is_taken() -> None:
    up, down = accuracies([0.0, 1.0] * 6, 4), accuracies([1.0, 0.0] * 6, 4)
    both = arm(np.concatenate([up.correct, down.correct]))
    found = metrics.figures(both, threshold=0.8)
    assert (found.mean, found.std, found.worst, found.num_seeds) == (0.5, 0.0, 0.5, 2)


def test_noise_correction_is_unbiased_for_independent_answers() -> None:
    rng = np.random.default_rng(0)
    true = np.linspace(0.6, 0.9, 20)
    variances = []
    for _ in range(400):
        one = arm(rng.random((20, 100)) < true[:, None])
        p = one.by_template
        variances.append(p.var(ddof=1) - (p * (1 - p) / 99).mean())
        assert metrics.noise_corrected_std(one) == pytest.approx(np.sqrt(max(0, variances[-1])))
    assert np.mean(variances) == pytest.approx(true.var(ddof=1), rel=0.05)


def test_below_twelve_templates_spread_is_refused_and_the_mean_stays() -> None:
    few = accuracies([0.5] * 11, 10)
    found = metrics.figures(few, threshold=0.8)
    assert (found.std, found.std_noise_corrected, found.worst) == (None, None, None)
    assert found.mean == 0.5
    assert found.refused == "only 11 templates, at least 12 are needed"
    gap = metrics.difference(few, few, rng=np.random.default_rng(0), num_bootstrap=10, confidence=0.95)
    assert (gap.mean, gap.low, gap.high) == (0.0, None, None)
    assert "no interval: only 11 templates" in metrics.verdict(gap)


def test_consistency_is_the_share_of_agreeing_pairs() -> None:
    # example 0: predictions a a b -> 1 of 3 pairs; example 1: a a a -> 3 of 3; example 2: two unparsed agree with nothing -> 0 of 3
    predicted = np.array([[0, 0, -1], [0, 0, -1], [1, 0, 0]])
    assert metrics.consistency(arm(np.ones((3, 3)), predicted)) == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert metrics.parse_failure_rate(arm(np.ones((3, 3)), predicted)) == pytest.approx(2 / 9)


def test_a_failed_row_is_left_out_of_every_figure() -> None:
    correct, predicted = np.ones((12, 4)), np.zeros((12, 4), dtype=int)
    correct[0, 0], predicted[0, 0] = np.nan, -2
    found = metrics.figures(arm(correct, predicted), threshold=0.8)
    assert (found.mean, found.worst, found.consistency, found.parse_failure_rate) == (1.0, 1.0, 1.0, 0.0)
    correct[0, :] = np.nan
    with pytest.raises(ValueError, match="no outcomes for template t000"):
        metrics.figures(arm(correct), threshold=0.8)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(12, 20), st.integers(2, 12), st.integers(1, 3))
def test_figures_do_not_depend_on_the_order_of_templates_and_examples(seed: int, templates: int, examples: int, seeds: int) -> None:
    rng = np.random.default_rng(seed)
    predicted = rng.integers(-1, 3, (seeds, templates, examples))
    correct = (predicted == 0).astype(float)
    found = metrics.figures(arm(correct, predicted), threshold=0.5)
    rows, columns = rng.permutation(templates), rng.permutation(examples)
    moved = metrics.figures(arm(correct[:, rows][:, :, columns], predicted[:, rows][:, :, columns]), threshold=0.5)
    assert found.std is not None
    assert found.std_noise_corrected is not None
    assert found.worst is not None
    for name in ("mean", "std", "std_noise_corrected", "worst", "best", "share_above", "consistency", "parse_failure_rate"):
        assert getattr(found, name) == pytest.approx(getattr(moved, name), abs=1e-7), name
    assert 0 <= found.worst <= found.mean <= found.best <= 1
    assert found.std_noise_corrected <= found.std


def test_bootstrap_over_one_axis_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).normal(size=40)
    ours = metrics.bootstrap_interval(values[None, None, :], rng=np.random.default_rng(2), num_bootstrap=20_000, confidence=0.9)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=np.random.default_rng(3))
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


def test_the_interval_covers_the_true_difference() -> None:
    rng = np.random.default_rng(5)
    covered, trials = 0, 150
    for _ in range(trials):
        gain = rng.normal(0.10, 0.05, size=(24, 1))
        hard = rng.normal(0, 0.15, size=(1, 60))
        sft = rng.random((24, 60)) < np.clip(0.6 + hard, 0, 1)
        paft = rng.random((24, 60)) < np.clip(0.6 + hard + gain, 0, 1)
        gap = metrics.difference(arm(paft), arm(sft), rng=rng, num_bootstrap=400, confidence=0.95)
        assert gap.low is not None
        assert gap.high is not None
        covered += gap.low <= 0.10 <= gap.high
    assert covered / trials >= 0.92


def test_the_interval_is_paired_and_seeded() -> None:
    sft = np.random.default_rng(6).random((12, 50)) < 0.5
    gap = metrics.difference(arm(sft), arm(sft), rng=np.random.default_rng(0), num_bootstrap=200, confidence=0.95)
    assert (gap.mean, gap.low, gap.high) == (0.0, 0.0, 0.0), "equal arms differ nowhere once templates and examples are paired"
    other = arm(np.random.default_rng(7).random((12, 50)) < 0.7)
    again = [metrics.difference(other, arm(sft), rng=np.random.default_rng(1), num_bootstrap=200, confidence=0.95) for _ in range(2)]
    assert again[0] == again[1]


def test_seeds_are_a_third_level_and_pair_by_number() -> None:
    low, high = np.zeros((1, 12, 20)), np.ones((1, 12, 20))
    sft = arm(np.concatenate([low, low, low]), seeds=(0, 1, 2))
    paft = arm(np.concatenate([high, low, high]), seeds=(0, 1, 2))
    gap = metrics.difference(paft, sft, rng=np.random.default_rng(0), num_bootstrap=500, confidence=0.95)
    assert (gap.mean, gap.low, gap.high, gap.num_seeds) == (pytest.approx(2 / 3), 0.0, 1.0, 3)
    base = arm(low, seeds=(-1,))
    assert metrics.difference(paft, base, rng=np.random.default_rng(0), num_bootstrap=50, confidence=0.95).num_seeds == 3
    with pytest.raises(ValueError, match="no seed in common"):
        metrics.difference(paft, arm(sft.correct, seeds=(7, 8, 9)), rng=np.random.default_rng(0), num_bootstrap=50, confidence=0.95)


@pytest.mark.parametrize(
    ("mean", "low", "high", "num_seeds", "sentence"),
    [
        (0.12, 0.05, 0.2, 1, "paft is 12.0 points above sft on held-out templates (95 % interval 5.0 to 20.0), on this seed"),
        (0.12, -0.01, 0.2, 1, "not decisive: paft is 12.0 points above sft on held-out templates (95 % interval -1.0 to 20.0), on this seed"),
        (0.12, 0.05, 0.2, 3, "paft is better than sft: 12.0 points above it on held-out templates (95 % interval 5.0 to 20.0), over 3 seeds"),
        (-0.12, -0.2, -0.05, 3, "paft is 12.0 points below sft on held-out templates (95 % interval -20.0 to -5.0), over 3 seeds"),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(mean: float, low: float, high: float, num_seeds: int, sentence: str) -> None:
    gap = metrics.Difference(first="paft", second="sft", mean=mean, low=low, high=high, confidence=0.95, num_seeds=num_seeds, refused=None)
    assert metrics.verdict(gap) == sentence


def test_a_table_becomes_arms_with_shared_ids_and_missing_rows() -> None:
    rows = [
        {"arm": "base", "seed": -1, "template_id": "t", "example_id": "b", "predicted": None, "parsed": False, "correct": False},
        {"arm": "sft", "seed": 0, "template_id": "t", "example_id": "a", "predicted": "yes", "parsed": True, "correct": True},
        {"arm": "sft", "seed": 0, "template_id": "t", "example_id": "b", "predicted": "no", "parsed": True, "correct": False},
    ]
    arms = metrics.arms_from_table(pa.Table.from_pylist(rows))
    assert arms["base"].example_ids == arms["sft"].example_ids == ("a", "b")
    np.testing.assert_array_equal(arms["base"].correct, [[[np.nan, 0.0]]])
    assert arms["base"].predicted is not None
    assert arms["base"].predicted.tolist() == [[[-2, -1]]]
    assert arms["base"].seeds == (-1,)
    with pytest.raises(ValueError, match="more than once"):
        metrics.arms_from_table(pa.Table.from_pylist([*rows, rows[0]]))
