"""Tokens and seconds of right answers: never of empty ones, and only of enough."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.metrics.answer_cost import MIN_RIGHT, answer_cost


@given(num_right=st.integers(0, MIN_RIGHT - 1), num_wrong=st.integers(0, 100))
def test_fewer_right_answers_than_needed_have_no_mean_but_a_reason(num_right: int, num_wrong: int) -> None:
    right = [True] * num_right + [False] * num_wrong
    cost = answer_cost(right, [1] * len(right), [0.1] * len(right))
    assert cost.tokens_per_answer is cost.seconds_per_answer is cost.tokens_low is cost.seconds_high is None
    assert (cost.num_rows, cost.num_asked) == (num_right, num_right + num_wrong)
    assert cost.reason == (
        f"{num_right} of {num_right + num_wrong} sampled answers are right; a mean of right answers needs {MIN_RIGHT}"
    )


@given(st.lists(st.integers(1, 16), min_size=MIN_RIGHT, max_size=200), st.integers(0, 300))
def test_wrong_answers_do_not_count(tokens: list[int], num_empty: int) -> None:
    right = [True] * len(tokens) + [False] * num_empty
    cost = answer_cost(right, tokens + [1] * num_empty, [0.01 * n for n in tokens] + [0.0] * num_empty)
    alone = answer_cost([True] * len(tokens), tokens, [0.01 * n for n in tokens])
    assert cost.tokens_per_answer == alone.tokens_per_answer == pytest.approx(np.mean(tokens), abs=1e-4)
    assert (cost.tokens_low, cost.seconds_low) == (alone.tokens_low, alone.seconds_low)
    assert cost.tokens_low <= cost.tokens_per_answer <= cost.tokens_high
    assert cost.reason is None


def test_the_interval_is_the_t_interval_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        cost = answer_cost([True] * 64, rng.integers(1, 17, 64).tolist(), rng.gamma(2, 0.5, 64).tolist())
        covered += cost.seconds_low <= 1.0 <= cost.seconds_high  # type: ignore[operator]
    assert 0.93 <= covered / 1000 <= 0.97


def test_an_engine_that_takes_no_time_leaves_tokens() -> None:
    cost = answer_cost([True] * 64, [2] * 64, [math.nan] * 64)
    assert (cost.tokens_per_answer, cost.tokens_low, cost.tokens_high) == (2.0, 2.0, 2.0)
    assert cost.seconds_per_answer is cost.seconds_low is cost.seconds_high is None
