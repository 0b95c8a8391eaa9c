"""Answers end where they can name no label any more, and not before."""

from typing import Any

import pytest

from paft_ray.inference.early_end import LABELS, EarlyEnd

END = 0
YES, NO = [*map(ord, "yes"), END], [*map(ord, "no"), END]
ASKED = {LABELS: {"yes": YES, "no": NO}}


class Letters:
    """A token is a character. `cleans`: spaces before full stops go."""

    def __init__(self, cleans: bool = False) -> None:
        self.cleans, self.num_decoded = cleans, 0

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [*map(ord, text)]}

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        self.num_decoded += 1
        text = "".join(chr(i) for i in ids if i)
        return text.replace(" .", ".") if self.cleans else text


def num_tokens(said: str, arguments: Any = None, tokenizer: Any = None) -> int | None:
    look = EarlyEnd(lambda: tokenizer or Letters()).watch(arguments or ASKED)
    return None if look is None else look([*map(ord, said)])


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
    assert EarlyEnd(lambda: pytest.fail("not needed")).watch(None) is None


def test_an_answer_is_looked_at_once_per_token_and_no_more_once_it_begins_with_a_label() -> None:
    tokenizer = Letters()
    look = EarlyEnd(lambda: tokenizer).watch(ASKED)
    assert look is not None
    before, said = tokenizer.num_decoded, [*map(ord, "** answer: yes, and a lot more of it")]
    assert {look(said[:num]) for num in range(1, len(said) + 1)} == {None}
    assert tokenizer.num_decoded - before == len("** answer: yes") - 3, "from the fourth token to the label's last"


def test_the_tokens_of_a_label_are_no_text_that_rules_it_out() -> None:
    """A tokenizer may decode a label's tokens to another text; the label is found by its tokens."""
    assert num_tokens("xylophone", {LABELS: {"piano": [*map(ord, "xylophone"), END], "no": NO}}) is None
    assert num_tokens("xylitol", {LABELS: {"piano": [*map(ord, "xylophone"), END], "no": NO}}) == 4


def test_a_tokenizer_that_changes_what_it_has_decoded_ends_nothing() -> None:
    assert num_tokens("I am not sure", tokenizer=Letters()) == 4
    assert num_tokens("I am not sure", tokenizer=Letters(cleans=True)) is None
