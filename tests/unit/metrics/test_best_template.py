"""How sure it is that the best of several templates is the best one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.metrics.best_template import best_probabilities


def grid(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float64)


def of(scores: np.ndarray, logprobs: np.ndarray | None = None) -> np.ndarray:
    return best_probabilities(scores, np.full(scores.shape, np.nan) if logprobs is None else logprobs)


def test_a_template_that_is_right_everywhere_is_the_best_for_sure() -> None:
    assert of(grid([0, 0, 0, 1], [1, 1, 1, 1], [0, 1, 0, 1])).tolist()[1] == pytest.approx(1 - (1 / 4) ** 4, abs=0.01)
    assert of(grid([0] * 40, [1] * 40)).tolist() == [0, 1]


def test_equal_ones_are_told_apart_by_log_probability_then_by_place() -> None:
    same = grid([1, 0] * 4, [1, 0] * 4, [1, 0] * 4)
    assert of(same).tolist() == [1, 0, 0]
    assert of(same, grid([-2] * 8, [-1] * 8, [-1] * 8)).tolist() == [0, 1, 0]


def test_two_of_the_same_accuracy_on_other_rows_share_the_probability() -> None:
    found = of(grid([1, 0] * 20, [0, 1] * 20))
    assert found.sum() == pytest.approx(1)
    assert abs(found[0] - found[1]) < 0.2, "the first has the draws in which both are equal"


def test_it_is_as_often_right_as_it_says() -> None:
    """Many worlds of three templates with true accuracies drawn alike: the mean of the stated probability is about the
    fraction of worlds in which the picked template truly is the best."""
    rng = np.random.default_rng(5)
    stated, right = [], []
    for _ in range(150):
        truth = rng.uniform(0.4, 0.9, size=3)
        scores = (rng.random((3, 40)) < truth[:, None]).astype(float)
        picked = int(np.argmax(scores.mean(axis=1)))
        stated.append(of(scores)[picked])
        right.append(picked == int(np.argmax(truth)))
    assert np.mean(stated) == pytest.approx(np.mean(right), abs=0.1)


def test_unanswered_cells_do_not_count() -> None:
    holes = grid([1, np.nan, 1, np.nan], [0, 0, 0, 0])
    assert of(holes)[0] > 0.9
    assert of(grid([np.nan] * 4, [0] * 4)).tolist() == [0, 1]


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 99))
def test_they_are_probabilities_and_the_order_of_the_rows_is_hardly_an_input(
    templates: int, rows: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 2, size=(templates, rows)).astype(float)
    logprobs = rng.normal(size=(templates, rows))
    found = of(scores, logprobs)
    assert found.shape == (templates,)
    assert found.sum() == pytest.approx(1)
    assert (found == of(scores, logprobs)).all()
    order = rng.permutation(rows)
    assert np.allclose(of(scores[:, order], logprobs[:, order]), found, atol=0.1)
