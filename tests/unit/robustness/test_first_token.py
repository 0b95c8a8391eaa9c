"""What the first tokens of a server's answer say of its choice among the labels."""

import math

import numpy as np
import pytest

from paft_ray.robustness.first_token import label_logprobs, normalized

LABELS = ("negative", "positive")


def test_tokens_that_begin_the_same_label_are_added() -> None:
    first = [(" Pos", math.log(0.3)), ("positive", math.log(0.1)), ("neg", math.log(0.2)), ("The", math.log(0.05))]
    found = label_logprobs(first, LABELS)
    assert found == pytest.approx([math.log(0.2), math.log(0.4)])
    assert normalized(found or ()) == pytest.approx([math.log(1 / 3), math.log(2 / 3)])


def test_a_label_that_is_not_shown_is_less_probable_than_the_last_one_shown() -> None:
    found = label_logprobs([("positive", -0.1), ("The", -3.0)], LABELS)
    assert found == pytest.approx([math.log(1 - math.exp(-0.1) - math.exp(-3.0)), -0.1])
    assert found is not None
    assert found[0] < -3.0


@pytest.mark.parametrize("first", [[("B", -0.01)], [("B", math.log(0.4))], [("B", math.log(0.6))]])
def test_a_label_that_is_not_shown_never_wins(first: list[tuple[str, float]]) -> None:
    found = label_logprobs(first, ("A", "B"))
    assert found is not None
    assert found[1] > found[0]
    a, b = np.float32(normalized(found))
    assert b > a, "as it is stored, too"


def test_what_a_server_is_certain_of_stays_certain() -> None:
    a, b = normalized(label_logprobs([("B", 0.0)], ("A", "B")) or ())
    assert math.exp(a) < 1e-6
    assert math.exp(b) > 1 - 1e-6


def test_a_token_may_go_on_behind_a_label_of_one_letter() -> None:
    found = label_logprobs([("A)", -0.2), ("B.", -2.0), ("Both", -2.5)], ("A", "B"))
    assert found == pytest.approx([-0.2, -2.0])


def test_a_token_that_is_a_label_is_that_one_though_it_begins_another() -> None:
    first = [("yes", math.log(0.45)), ("no", math.log(0.4)), (" No", math.log(0.1)), ("not", math.log(0.05))]
    found = label_logprobs(first, ("yes", "no", "not sure"))
    assert found == pytest.approx([math.log(0.45), math.log(0.5), math.log(0.05)])


@pytest.mark.parametrize(
    ("first", "labels"),
    [
        ([], LABELS),
        ([("The", -0.1), ("\n", -0.5), ("", -0.6)], LABELS),
        ([("n", -0.1), ("negative", -4.0)], ("negative", "neutral")),
        ([("The", -0.05), ("I", -3.2), ("A", -7.0), ("It", -7.5)], ("A", "B")),
    ],
    ids=["nothing", "no label", "the likeliest begins two labels", "the answer starts with a sentence"],
)
def test_where_the_likeliest_token_is_of_no_label_nothing_is_known(
    first: list[tuple[str, float]], labels: tuple[str, ...]
) -> None:
    assert label_logprobs(first, labels) is None
