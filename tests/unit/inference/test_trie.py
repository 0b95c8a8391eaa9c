"""Labels as a trie: one branch where first tokens differ, more where they are shared."""

import math

import pytest

from paft_ray.inference.trie import branches, greedy_label, label_logprobs

APART = {"no": [5, 0], "yes": [7, 0]}
SHARED = {"New York": [1, 2, 0], "New Delhi": [1, 3, 0], "Rome": [4, 0]}
PREFIX = {"A": [1, 0], "AB": [1, 2, 0]}


def test_labels_that_differ_at_once_part_once() -> None:
    assert branches(APART) == {(): (5, 7)}


def test_shared_first_tokens_part_again() -> None:
    assert branches(SHARED) == {(): (1, 4), (1,): (2, 3)}


def test_a_label_that_begins_another_ends_with_the_end_token() -> None:
    assert branches(PREFIX) == {(1,): (0, 2)}


def test_log_probabilities_are_normalised_over_labels() -> None:
    answers = {(): {1: math.log(0.2), 4: math.log(0.2)}, (1,): {2: math.log(0.3), 3: math.log(0.1)}}
    found = {label: math.exp(value) for label, value in label_logprobs(SHARED, answers).items()}
    assert found == pytest.approx({"New York": 0.375, "New Delhi": 0.125, "Rome": 0.5})


def test_greedy_follows_the_best_token_at_each_branch() -> None:
    answers = {(): {1: -0.1, 4: -2.0}, (1,): {2: -3.0, 3: -1.0}}
    assert greedy_label(SHARED, answers) == "New Delhi"
    assert greedy_label(PREFIX, {(1,): {0: -1.0, 2: -0.5}}) == "AB"
