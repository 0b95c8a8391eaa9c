"""Answers end where they can name no label any more, and not before."""

from typing import Any

import pytest

from paft_ray.inference.early_end import LABELS, EarlyEnd

END = 0
YES, NO = [*map(ord, "yes"), END], [*map(ord, "no"), END]
ASKED = {LABELS: {"yes": YES, "no": NO}}


class Letters:
    """A token is a character."""

    clean_up_tokenization_spaces = False

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return "".join(chr(i) for i in ids if i)


def num_tokens(said: str, arguments: Any = None, tokenizer: Any = None) -> int | None:
    return EarlyEnd(lambda: tokenizer or Letters()).num_tokens([*map(ord, said)], arguments or ASKED)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("I am not sure", 4),
        ("I am", 4),
        ("I a", None),  # shorter than what a reader is shown
        ("**yeah", 5),
        ("Answer: ye", None),
        ("Answer: yea", 11),
        ("yes, and more of it", None),
        ("\n\n1. n", None),
    ],
)
def test_an_answer_ends_at_the_first_token_that_rules_all_labels_out(said: str, expected: int | None) -> None:
    assert num_tokens(said) == expected
    assert expected is None or num_tokens(said[:expected]) == expected, "as soon as it is there"
    assert expected is None or num_tokens(said[: expected - 1]) is None


def test_only_who_asks_for_it_gets_an_early_end() -> None:
    assert num_tokens("I am not sure", {"other": 1}) is None
    assert EarlyEnd(lambda: pytest.fail("not needed")).num_tokens([*map(ord, "I am not sure")], None) is None


def test_the_tokens_of_a_label_are_no_text_that_rules_it_out() -> None:
    """A tokenizer may decode a label's tokens to another text; the label is found by its tokens."""
    assert num_tokens("xylophone", {LABELS: {"piano": [*map(ord, "xylophone"), END], "no": NO}}) is None
    assert num_tokens("xylitol", {LABELS: {"piano": [*map(ord, "xylophone"), END], "no": NO}}) == 4


def test_a_tokenizer_that_changes_what_it_has_decoded_ends_nothing() -> None:
    tokenizer = Letters()
    tokenizer.clean_up_tokenization_spaces = True
    assert num_tokens("I am not sure", tokenizer=tokenizer) is None
