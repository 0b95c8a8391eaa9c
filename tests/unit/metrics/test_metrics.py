from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from paft_ray import metrics
from paft_ray.errors import UserError
from paft_ray.metrics import ArmOutcomes, robustness
from tests.support.made_outcomes import arm, outcome_row


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
    # squares: 22.5 in all, 7.5 of templates, 7.5 of examples (the last five are right half of the time), so 7.5 of
    # residuals with 11 x 9 degrees of freedom; noise of one accuracy: a tenth
    assert found.std_noise_corrected == pytest.approx(np.sqrt(12 * 0.0625 / 11 - 7.5 / 99 / 10))
    assert found.decile == 0.5
    assert (found.num_templates, found.num_examples, found.num_seeds) == (12, 10, 1)
    assert found.insufficient_data_reason is None


def test_std_agrees_with_scipy() -> None:
    values = [0.1, 0.9, 0.4, 0.3, 0.8, 0.2, 0.6, 0.7, 0.5, 0.5, 1.0, 0.0]
    found = metrics.figures(accuracies(values, 10), threshold=0.8)
    assert found.std == pytest.approx(stats.tstd(values))
    assert found.mean == pytest.approx(stats.describe(values).mean)


def test_spread_is_of_each_seed_and_then_averaged() -> None:
    up, down = accuracies([0.0, 1.0] * 6, 4), accuracies([1.0, 0.0] * 6, 4)
    both = metrics.figures(arm(np.concatenate([up.correct, down.correct])), threshold=0.8)
    one = metrics.figures(up, threshold=0.8)
    assert (both.mean, both.num_seeds) == (0.5, 2), "the average of both models is 0.5 everywhere; nobody deploys it"
    assert (both.std, both.worst, both.decile, both.best) == (one.std, 0.0, 0.0, 1.0)
    assert both.quantiles == one.quantiles
    steady = accuracies([0.5] * 12, 4)
    mixed = metrics.figures(arm(np.concatenate([up.correct, steady.correct])), threshold=0.8)
    assert one.std is not None
    assert (mixed.worst, mixed.std) == (0.25, pytest.approx(one.std / 2))


@pytest.mark.parametrize("spread", [0.0475, 0.161])
def test_std_without_noise_is_right_on_average_where_examples_differ_in_difficulty(spread: float) -> None:
    """Binomial noise p (1 - p) / (n - 1) would take out the difficulty that all templates share: 3.7 for 4.75."""
    rng = np.random.default_rng(0)
    variances = []
    for _ in range(600):
        hard = rng.normal(0, 0.18, 50)
        values = 0.7 + rng.normal(0, spread, (12, 1)) + hard + rng.normal(0, 0.4, (12, 50))
        one = arm(values)
        noise = robustness.noise_by_seed(one)
        assert noise is not None
        variances.append(one.by_template.var(ddof=1) - noise[0])
        assert metrics.noise_corrected_std(one) == pytest.approx(np.sqrt(max(0, variances[-1])))
    assert np.mean(variances) == pytest.approx(spread**2, abs=3 * np.std(variances) / np.sqrt(600))


def test_below_twelve_templates_spread_is_refused_and_the_mean_stays() -> None:
    few = accuracies([0.5] * 11, 10)
    found = metrics.figures(few, threshold=0.8)
    assert (found.std, found.std_noise_corrected, found.worst, found.worst_shrunken, found.sensitivity) == (None,) * 5
    assert found.decile is None
    assert found.quantiles == dict.fromkeys(("0.1", "0.25", "0.5", "0.75", "0.9"))
    assert found.mean == 0.5
    assert found.insufficient_data_reason == "only 11 templates, at least 12 are needed"


def test_consistency_is_the_share_of_agreeing_pairs() -> None:
    # example 0: predictions a a b -> 1 of 3 pairs; example 1: a a a -> 3 of 3; example 2: two unparsed agree with
    # nothing -> 0 of 3
    predicted = np.array([[0, 0, -1], [0, 0, -1], [1, 0, 0]])
    assert metrics.consistency(arm(np.ones((3, 3)), predicted)) == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert metrics.parse_failure_rate(arm(np.ones((3, 3)), predicted)) == pytest.approx(2 / 9)


def test_sensitivity_is_the_prompt_sensi_score_of_prosa() -> None:
    # example 0: right under 1 of 3 wordings -> 2 of 3 pairs differ; example 1: under all -> 0; example 2: a failed row
    # leaves one pair, which differs
    correct = np.array([[1, 1, 1], [0, 1, 0], [0, 1, np.nan]])
    assert metrics.sensitivity(arm(correct)) == pytest.approx((2 / 3 + 0 + 1) / 3)
    seeds = arm(np.stack([np.ones((3, 3)), correct]))
    assert metrics.sensitivity(seeds) == pytest.approx((2 / 3 + 0 + 1) / 6), "seeds are averaged, not compared"
    assert metrics.sensitivity(arm(np.ones((1, 3)))) is None


@given(st.integers(0, 2**31), st.integers(2, 8), st.integers(1, 6))
def test_sensitivity_equals_a_plain_loop_and_with_two_labels_the_lack_of_consistency(
    seed: int, templates: int, examples: int
) -> None:
    predicted = np.random.default_rng(seed).integers(0, 2, (templates, examples))
    one = arm(predicted == 1, predicted)
    gaps = [abs(int(a) - int(b)) for answers in predicted.T for a, b in combinations(answers, 2)]
    assert metrics.sensitivity(one) == pytest.approx(np.mean(gaps))
    consistency = metrics.consistency(one)
    assert consistency is not None
    assert metrics.sensitivity(one) == pytest.approx(1 - consistency)


def test_quantiles_over_templates_of_a_hand_computed_case() -> None:
    found = metrics.figures(accuracies([round(0.05 * n, 2) for n in range(5, 16)] + [1.0], 20), threshold=0.8)
    # twelve ordered accuracies, 11 gaps: the 0.1 quantile lies 1.1 gaps above the lowest
    assert found.quantiles == pytest.approx({"0.1": 0.305, "0.25": 0.3875, "0.5": 0.525, "0.75": 0.6625, "0.9": 0.745})


def test_the_worst_template_is_shrunk_by_the_share_of_noise() -> None:
    # accuracies 1, 0.5, 0.5, 0.5: variance 1 / 16; squares: 3.75 in all, 0.75 of templates, 0.25 of examples, so 2.75
    # of residuals with 9 degrees of freedom
    correct = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0]])
    kept = 1 - (4 - 3) / (4 - 1) * (2.75 / 9 / 4) / (1 / 16)
    assert metrics.worst_shrunken(arm(correct)) == pytest.approx(0.625 + kept * (0.5 - 0.625))
    assert metrics.worst_shrunken(accuracies([0.5] * 12, 10)) == 0.5, "without spread there is nothing to shrink"
    assert metrics.worst_shrunken(accuracies([0.0, 1.0] * 6, 10)) == 0.0, "without noise nothing is shrunk"
    assert metrics.worst_shrunken(accuracies([0.0, 1.0] * 6, 1)) is None, "one example does not tell its noise"


def test_shrinking_nears_the_posterior_mean_of_a_beta_binomial() -> None:
    rng = np.random.default_rng(8)
    right = stats.betabinom.rvs(40, 12, 4, size=2000, random_state=rng)
    one = arm(np.array([rng.permutation(40) < k for k in right]))
    posterior = (12 + right.min()) / (12 + 4 + 40)
    assert metrics.worst_shrunken(one) == pytest.approx(posterior, abs=0.02)
    assert one.by_template.min() < posterior - 0.1, "the lowest accuracy itself is far below"


def test_the_shrunken_worst_loses_most_of_the_winners_curse() -> None:
    rng = np.random.default_rng(9)
    raw, shrunken = [], []
    for _ in range(300):
        hard = rng.uniform(-0.2, 0.2, 50)
        true = rng.normal(0.7, 0.05, 20)
        one = arm(rng.random((20, 50)) < np.clip(true[:, None] + hard, 0, 1))
        of_worst = true[one.by_template.argmin()] + hard.mean()
        raw.append(one.by_template.min() - of_worst)
        shrunken.append(metrics.worst_shrunken(one) - of_worst)
    assert np.mean(raw) < -0.06, "the lowest accuracy is this much below what its template really reaches"
    assert abs(np.mean(shrunken)) < 0.02


def test_a_failed_row_is_left_out_of_every_figure() -> None:
    correct, predicted = np.ones((12, 4)), np.zeros((12, 4), dtype=int)
    correct[0, 0], predicted[0, 0] = np.nan, -2
    found = metrics.figures(arm(correct, predicted), threshold=0.8)
    assert (
        found.mean,
        found.worst,
        found.worst_shrunken,
        found.consistency,
        found.sensitivity,
        found.parse_failure_rate,
    ) == (1.0, 1.0, 1.0, 1.0, 0.0, 0.0)
    correct[0, :] = np.nan
    with pytest.raises(ValueError, match="no outcomes for template t000"):
        metrics.figures(arm(correct), threshold=0.8)


@given(st.integers(0, 2**31), st.integers(12, 20), st.integers(2, 12), st.integers(1, 3))
def test_figures_do_not_depend_on_the_order_of_templates_and_examples(
    seed: int, templates: int, examples: int, seeds: int
) -> None:
    rng = np.random.default_rng(seed)
    predicted = rng.integers(-1, 3, (seeds, templates, examples))
    correct = (predicted == 0).astype(float)
    found = metrics.figures(arm(correct, predicted), threshold=0.5)
    rows, columns = rng.permutation(templates), rng.permutation(examples)
    moved = metrics.figures(arm(correct[:, rows][:, :, columns], predicted[:, rows][:, :, columns]), threshold=0.5)
    assert found.std is not None
    assert found.std_noise_corrected is not None
    assert found.worst is not None
    for name in (
        "mean",
        "std",
        "std_noise_corrected",
        "worst",
        "worst_shrunken",
        "best",
        "share_above",
        "consistency",
        "sensitivity",
        "quantiles",
    ):
        assert getattr(found, name) == pytest.approx(getattr(moved, name), abs=1e-7), name
    assert found.worst_shrunken is not None
    assert found.worst - 1e-9 <= found.worst_shrunken <= found.mean + 1e-9
    assert 0 <= found.worst <= found.mean <= found.best <= 1
    assert found.std_noise_corrected <= found.std


def test_a_table_becomes_arms_with_shared_ids_and_missing_rows() -> None:
    rows = [
        outcome_row("base", "t", "b", "yes", None, seed=-1),
        outcome_row("sft", "t", "a", "yes", "yes"),
        outcome_row("sft", "t", "b", "yes", "no"),
    ]
    arms = metrics.arms_from_table(pa.Table.from_pylist(rows))
    assert arms["base"].example_ids == arms["sft"].example_ids == ("a", "b")
    np.testing.assert_array_equal(arms["base"].correct, [[[np.nan, 0.0]]])
    assert arms["base"].predicted is not None
    assert arms["base"].predicted.tolist() == [[[-2, -1]]]
    assert arms["base"].seeds == (-1,)
    with pytest.raises(ValueError, match="more than once"):
        metrics.arms_from_table(pa.Table.from_pylist([*rows, rows[0]]))


def answer_row(example: str, **values: object) -> dict[str, object]:
    return outcome_row("paft", "t", example, "yes", "no", **values)


def test_a_measure_picks_its_column_and_its_prediction() -> None:
    rows = [
        answer_row("a", behavior=1.0, strict=0.0, named="yes"),
        answer_row("b", behavior=0.25, strict=0.25, named="no"),
        answer_row("c", behavior=0.0, strict=0.0, named=None),
        answer_row("d", behavior=None, strict=None, named=None),
    ]
    table = pa.Table.from_pylist(rows)
    found = metrics.arms_from_table(table, measure="behavior")["paft"]
    np.testing.assert_array_equal(found.correct, [[[1.0, 0.25, 0.0, np.nan]]])
    assert found.predicted is not None
    assert (found.predicted[0, 0] < 0).tolist() == [False, False, True, True]
    assert found.predicted[0, 0, 2:].tolist() == [-1, -2], "nothing parsed, not asked"
    assert found.is_graded
    np.testing.assert_array_equal(metrics.arms_from_table(table, "strict")["paft"].correct, [[[0, 0.25, 0, np.nan]]])
    knowledge = metrics.arms_from_table(table)["paft"]
    np.testing.assert_array_equal(knowledge.correct, [[[0.0] * 4]])
    assert not knowledge.is_graded


@pytest.mark.parametrize("measure", ["behavior", "strict"])
def test_outcomes_without_the_measure_ask_for_another_evaluation(measure: metrics.Measure) -> None:
    old, null = answer_row("a"), answer_row("a", behavior=None, strict=None, named=None)
    for row in (old, null):
        with pytest.raises(UserError, match=f"do not hold the measure {measure}; run stage evaluate again"):
            metrics.arms_from_table(pa.Table.from_pylist([row]), measure)
    assert metrics.arms_from_table(pa.Table.from_pylist([old])).keys() == {"paft"}


def test_values_outside_0_to_1_are_refused() -> None:
    table = pa.Table.from_pylist([answer_row("a", behavior=1.5, strict=0.0, named="yes")])
    with pytest.raises(UserError, match="column behavior has values outside 0 to 1"):
        metrics.arms_from_table(table, "behavior")


def test_graded_values_have_every_figure_but_those_that_need_right_or_wrong() -> None:
    graded = arm(np.random.default_rng(3).random((12, 20)))
    assert metrics.sensitivity(graded) is None
    found = metrics.figures(graded, threshold=0.5)
    assert found.sensitivity is None
    assert found.std is not None
    assert found.worst_shrunken is not None
    assert 0 <= found.worst_shrunken <= found.mean <= 1
