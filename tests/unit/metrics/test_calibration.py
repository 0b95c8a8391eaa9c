"""Calibration of labels as a control: what a template makes a model prefer is taken out, and nothing else."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paft_ray.errors import UserError
from paft_ray.metrics import arms_from_table
from paft_ray.metrics.calibration import calibrated_arms, calibrated_choice, most_probable_arms
from tests.support.made_outcomes import outcome_row, outcome_table

LABELS = ("a", "b", "c")


def table(logits: np.ndarray, first_row: int = 0, greedy: str | None = None) -> pa.Table:
    """Rows of one arm; `logits`: [templates, rows, labels]; the right label of row r is r mod 3. `greedy`: what greedy
    decoding ends in, default the most probable label."""
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    rows: list[dict[str, Any]] = []
    for template, row in np.ndindex(*logits.shape[:2]):
        found, right = logprobs[template, row], (first_row + row) % 3
        best = int(found.argmax())
        rows.append(
            outcome_row(
                "base",
                f"t{template}",
                f"e{first_row + row:03}",
                LABELS[right],
                greedy or LABELS[best],
                seed=-1,
                logprob=float(found[right]),
                label_logprobs=found.tolist(),
            )
        )
    return outcome_table(rows, LABELS)


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(0, 5))
def test_a_constant_per_template_and_label_changes_nothing(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (4, 9, 3))
    shifted = logits + rng.normal(0, scale, (4, 1, 3))
    one, other = calibrated_arms(table(logits), LABELS), calibrated_arms(table(shifted), LABELS)
    np.testing.assert_array_equal(one["base+cal"].correct, other["base+cal"].correct)
    batches = table(logits, 50), table(shifted, 50)
    one, other = (
        calibrated_arms(table(rows), LABELS, batch) for rows, batch in zip((logits, shifted), batches, strict=True)
    )
    np.testing.assert_array_equal(one["base+cal"].correct, other["base+cal"].correct)


def test_a_bias_of_the_template_is_taken_out() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 0.3, (5, 30, 3))
    logits[:, np.arange(30), np.arange(30) % 3] += 2
    biased = logits + np.array([9.0, 0, 0])
    plain = arms_from_table(table(biased))["base"]
    (calibrated,) = calibrated_arms(table(biased), LABELS).values()
    assert plain.by_template.max() < 0.4 < 0.95 < calibrated.by_template.min()
    assert (calibrated.template_ids, calibrated.example_ids) == (plain.template_ids, plain.example_ids)


def test_rows_of_another_table_stand_for_the_batch_by_model_and_template() -> None:
    logits = np.zeros((2, 3, 3))
    others = np.zeros((2, 4, 3))
    others[0, :, 0], others[1, :, 2] = 3, 3
    found = calibrated_arms(table(logits), LABELS, table(others, 50))["base+cal"]
    assert found.predicted is not None
    assert found.correct[0].tolist() == [[0, 1, 0], [1, 0, 0]], "b is most above its mean in t0, a in t1"
    with pytest.raises(UserError, match="the other rows lack answers of a model under a template"):
        calibrated_arms(table(logits), LABELS, table(others[:1], 50))
    with pytest.raises(UserError, match="log-probabilities of 2 labels are needed in every row"):
        calibrated_arms(table(logits), LABELS[:2])


@given(st.permutations(range(3)))
def test_of_equal_labels_the_first_is_chosen_and_rounding_is_no_difference(order: list[int]) -> None:
    scores = np.array([[-1.0, -1.0 + 1e-9, -1.0 - 1e-9]])[:, order]
    assert calibrated_choice(scores, np.zeros((1, 3))).tolist() == [0]
    assert calibrated_choice(scores + np.array([[0, 1e-4, 0]]), np.zeros((1, 3))).tolist() == [1]


def test_outcomes_without_log_probabilities_have_no_control() -> None:
    made = table(np.zeros((1, 3, 3)))
    none = made.set_column(made.schema.get_field_index("label_logprobs"), "label_logprobs", [[None] * 3])
    assert calibrated_arms(none, LABELS) == {}
    assert calibrated_arms(made.slice(0, 0), LABELS) == {}


def test_log_probabilities_are_those_of_the_grid() -> None:
    """A row of its own mean is at the mean: every label ties, the first wins."""
    (found,) = calibrated_arms(table(np.log([[[0.7, 0.2, 0.1]] * 3])), LABELS).values()
    assert found.correct[0].tolist() == [[1, 0, 0]]
    assert math.isclose(float(np.nanmean(found.correct)), 1 / 3)


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), greedy=st.sampled_from([None, *LABELS]))
def test_what_calibration_is_compared_with_differs_in_the_calibration_alone(seed: int, greedy: str | None) -> None:
    """Log-probabilities whose mean is the same for all labels under every template: calibration takes nothing off, so
    both choose alike, whatever greedy decoding ended in (where labels begin alike it may miss the most probable)."""
    logprobs = np.random.default_rng(seed).normal(0, 2, (4, 9, 3))
    logprobs -= logprobs.mean(axis=1, keepdims=True)
    made = table(np.zeros((4, 9, 3)), greedy=greedy)
    rows = pa.array(logprobs.reshape(-1, 3).tolist(), pa.list_(pa.float32()))
    made = made.set_column(made.schema.get_field_index("label_logprobs"), "label_logprobs", rows)
    plain, calibrated = most_probable_arms(made, LABELS), calibrated_arms(made, LABELS)
    np.testing.assert_array_equal(plain["base"].correct, calibrated["base+cal"].correct)
    assert most_probable_arms(made.slice(0, 0), LABELS) == {}


@pytest.mark.parametrize(("greedy", "right"), [("a", [1, 0, 0]), ("b", [0, 1, 0]), ("c", [0, 0, 1]), ("d", [1, 0, 0])])
def test_of_equally_probable_labels_the_greedy_one_is_most_probable(greedy: str, right: list[float]) -> None:
    """So that with labels that begin differently it is knowledge. A greedy one that is none gives the first."""
    made = table(np.zeros((1, 3, 3)), greedy=greedy)
    assert most_probable_arms(made, LABELS)["base"].correct[0].tolist() == [right]
    if greedy in LABELS:
        assert arms_from_table(made)["base"].correct[0].tolist() == [right]
