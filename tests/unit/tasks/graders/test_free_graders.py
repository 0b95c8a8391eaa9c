"""Graders of generated answers: scores in [0, 1], 1 for the reference itself, and no text that they fail on."""

import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from paft_ray.errors import UserError
from paft_ray.tasks.example import Example
from paft_ray.tasks.graders.choice import Choice
from paft_ray.tasks.graders.exact_match import ExactMatch
from paft_ray.tasks.graders.grader import ChecksReferences, Grader
from paft_ray.tasks.graders.normalized import normalized
from paft_ray.tasks.graders.numeric import Numeric
from paft_ray.tasks.graders.regex import Regex
from paft_ray.tasks.graders.token_f1 import TokenF1
from paft_ray.tasks.pattern import LONGEST_TEXT
from paft_ray.tasks.task import Task

FREE: list[Grader] = [ExactMatch(), TokenF1(), Numeric(), Numeric(tolerance=0.5), Regex(pattern=r"(?i)(\w+)\W*$")]
HOSTILE = [
    "",
    " \n\t\u00a0",
    "\x00",
    "\ud800",
    "Answer:" * 20_000,
    "*" * LONGEST_TEXT,
    "9" * LONGEST_TEXT,
    "1," * (LONGEST_TEXT // 2),
    "1,000" * (LONGEST_TEXT // 5),
    "-" * LONGEST_TEXT + "1",
    ("1e" + "9" * 50) * 2000,
    "." * LONGEST_TEXT,
    "\u0301" * LONGEST_TEXT,
    "the " * (LONGEST_TEXT // 4),
    "\r\n" * LONGEST_TEXT,
    "\u202e\u200b1\u2028",
]
WORDS = st.text(st.sampled_from("aAbthe THE 1,.-$e\u00e9\u0301\n\"*'#Answer:?"), max_size=40)
TEXTS = st.text(max_size=60) | WORDS | st.sampled_from(["Answer: ", "**Answer:** x", "the", "a an", "1e999", "-1,0.5"])


def example(answer: str) -> Example:
    return Example(id="1", fields={"text": "x"}, answer=answer)


def task(kind: str, **more: float) -> Task:
    return Task(name="t", description="d", fields={"text": "a text"}, grader={"type": kind, **more})


@pytest.mark.parametrize("grader", FREE, ids=str)
@given(TEXTS, TEXTS)
@settings(deadline=None)
def test_scores_are_in_bounds_and_of_the_reference_one(grader: Grader, text: str, reference: str) -> None:
    for read in (grader.parse, grader.parse_strict):
        found, right = read(text), read(reference)
        if found is not None:
            score = grader.score(found, example(reference))
            assert 0 <= score <= 1
            assert grader.is_graded or score in (0, 1)
        if right is not None:
            assert grader.score(right, example(reference)) == 1


@given(TEXTS, TEXTS)
@settings(deadline=None)
def test_what_is_right_strictly_is_right_leniently(text: str, reference: str) -> None:
    assume(normalized(reference) != "answer")  # `Answer:` alone is no answer
    for grader in (ExactMatch(), Numeric()):
        strict, lenient = grader.parse_strict(text), grader.parse(text)
        if strict is not None and grader.score(strict, example(reference)):
            assert lenient is not None
            assert grader.score(lenient, example(reference)) == 1


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_makes_a_grader_fail_or_hang(text: str) -> None:
    start = time.process_time()
    for grader in (*FREE, Choice(labels=("a", "b"))):
        for found in (grader.parse(text), grader.parse_strict(text)):
            assert found is None or 0 <= grader.score(found, example(text)) <= 1
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("The  Eiffel Tower!", "eiffel tower"),
        ("a man, an owl", "man owl"),
        ("U.S.A.", "usa"),
        ("$5.00", "500"),
        ("theatre", "theatre"),
        ("\u201cCafe\u0301\u201d \u2014 oui", "caf\u00e9 oui"),
        ("the", "the"),
        ("?!", "?!"),
    ],
)
def test_texts_are_normalized_as_squad_does(text: str, same: str) -> None:
    assert normalized(text) == same


@pytest.mark.parametrize(
    ("text", "lenient", "strict"),
    [
        ("Paris", 1, 1),
        ("the PARIS.", 1, 1),
        ("Answer: Paris", 1, 0),
        ('**"Paris"**', 1, 1),
        ("Paris\n\nQuestion: and Spain?", 1, None),
        ("Paris, France", 0, 0),
        ("", None, None),
        ("Answer:", None, 0),
    ],
)
def test_exact_match(text: str, lenient: int | None, strict: int | None) -> None:
    grader = ExactMatch()
    for read, expected in ((grader.parse, lenient), (grader.parse_strict, strict)):
        found = read(text)
        assert (found if found is None else grader.score(found, example("Paris"))) == expected


@pytest.mark.parametrize(
    ("text", "reference", "score"),
    [
        ("the cat sat", "A cat sat down.", 0.8),
        ("cat cat", "cat", 2 / 3),
        ("dog", "cat", 0),
        ("Answer: on the mat", "on a mat", 1),
        ("on\nthe mat", "on the mat", 1),
        ("the", "a", 0),
    ],
)
def test_token_f1(text: str, reference: str, score: float) -> None:
    grader = TokenF1()
    assert grader.score(str(grader.parse(text)), example(reference)) == pytest.approx(score)
    assert grader.is_graded


@pytest.mark.parametrize(
    ("text", "number", "strict"),
    [
        ("1000", "1000", "1000"),
        (" 1,000 ", "1000", "1000"),
        ("so 3 and 4 make 7.", "7", None),
        ("it costs -$1,234.50", "-1234.50", None),
        ("$-7.5", "-7.5", None),
        ("5-3", "3", None),
        ("\u22122.5", "-2.5", "-2.5"),
        ("about .5", ".5", None),
        ("1.5e-3", "1.5e-3", "1.5e-3"),
        ("12kg", "12", None),
        ("option B2", None, None),
        ("none", None, None),
        ("9" * 301, None, None),
        ("1e9999", None, None),
    ],
)
def test_the_last_number_is_read(text: str, number: str | None, strict: str | None) -> None:
    assert (Numeric().parse(text), Numeric().parse_strict(text)) == (number, strict)


@pytest.mark.parametrize(
    ("tolerance", "text", "reference", "score"),
    [
        (0, "0.10", "#### 0.1", 1),
        (0, "1e3", "1,000", 1),
        (0, "9007199254740993", "9007199254740992", 0),
        (0.3, "1.3", "1", 1),
        (0.3, "1.31", "1", 0),
        (0, "1e999", "1e-999", 0),
    ],
)
def test_numbers_are_compared_exactly_within_the_tolerance(
    tolerance: float, text: str, reference: str, score: int
) -> None:
    grader = Numeric(tolerance=tolerance)
    assert grader.score(str(grader.parse(text)), example(reference)) == score


@pytest.mark.parametrize(
    ("kind", "answer", "reason"),
    [
        ("exact_match", "one\ntwo", "several lines"),
        ("exact_match", "Answer:", "holds nothing to compare"),
        ("numeric", "many", "holds no number"),
        ("token_f1", "**Answer:**", "holds nothing that the task's grader could judge"),
    ],
)
def test_a_reference_that_no_answer_could_match_is_refused_with_its_row(kind: str, answer: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"rows.jsonl:7: the reference answer .*{reason}"):
        task(kind).example({"text": "x", "label": answer}, "rows.jsonl:7")
    assert isinstance(task(kind).grader, ChecksReferences) or kind == "token_f1"


def test_settings_of_a_grader_are_checked() -> None:
    assert task("numeric", tolerance=0.01).grader == Numeric(tolerance=0.01)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="tolerance"):
            task("numeric", tolerance=wrong)
