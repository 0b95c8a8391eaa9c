"""Grader `choice`: lenient reading begins with a label, strict reading is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.tasks.example import Example
from paft_ray.tasks.graders.choice import Choice
from paft_ray.tasks.task import load_task
from paft_ray.tasks.values import nfc

SENTIMENT = Choice(labels=("negative", "positive"))


def example(answer: str) -> Example:
    return Example(id="1", fields={"text": "x"}, answer=answer)


@pytest.mark.parametrize(
    ("completion", "lenient", "strict"),
    [
        (" positive\n", "positive", "positive"),
        ("Positive", "positive", None),
        ("POSITIVE!", "positive", None),
        ("positive.", "positive", None),
        ("positive\nReview: another one", "positive", None),
        ("'negative'", "negative", None),
        ("**positive**", "positive", None),
        ("Answer: positive", "positive", None),
        ("answer:positive, I think", "positive", None),
        ("**Answer:** Negative", "negative", None),
        ("> Answer: `negative`", "negative", None),
        ("(positive)", "positive", None),
        ("[Positive]", "positive", None),
        ("- positive", "positive", None),
        ("1. positive", "positive", None),
        ("<negative>", "negative", None),
        ("Answer: (negative)", "negative", None),
        ("12 positive", None, None),
        ("The answer is positive", None, None),
        ("It was positive", None, None),
        ("positively awful", None, None),
        ("positive1", None, None),
        ("positiv", None, None),
        ("posi tive", None, None),
        ("posi12. tive", None, None),
        ("Answer:", None, None),
        ("", None, None),
        (" \n", None, None),
        ("posi\u0301tive", None, None),
        ("positive\u0301", None, None),
    ],
)
def test_the_label_that_an_answer_begins_with_and_the_one_that_it_is(
    completion: str, lenient: str | None, strict: str | None
) -> None:
    assert SENTIMENT.parse(completion) == lenient
    assert SENTIMENT.parse_strict(completion) == strict


@pytest.mark.parametrize(
    ("labels", "completion", "lenient"),
    [
        (("no", "no idea"), "No idea, sorry", "no idea"),
        (("no", "no idea"), "no ideas", "no"),
        (("A", "a"), "a)", "a"),
        (("A", "a"), "A)", "A"),
        (("Us", "us"), "US", None),
        (("A", "B"), "**(B)**", "B"),
        (("A", "B"), "a matter of taste", None),
        (("A", "B"), "b)", "B"),
        (("1", "2", "3"), "10", None),
        (("1", "2", "3"), "2. the second", "2"),
        (("c", "c++"), "C++ it is", "c++"),
        (("*", "**"), "** yes", "**"),
        (("answer: a", "a"), "Answer: A", "answer: a"),
        (("stra\u00dfe", "weg"), "STRASSE.", "stra\u00dfe"),
        (("caf\u00e9", "bar"), "cafe\u0301", "caf\u00e9"),
        (("\u662f", "\u5426"), "\u662f\u3002", "\u662f"),
    ],
)
def test_the_longest_label_wins_and_case_decides_where_nothing_else_does(
    labels: tuple[str, ...], completion: str, lenient: str | None
) -> None:
    assert Choice(labels=labels).parse(completion) == lenient


TEXT = st.text(min_size=1, max_size=12).map(str.strip).filter(bool)


@given(st.lists(TEXT, min_size=2, max_size=5, unique_by=lambda label: nfc(nfc(label).casefold())))
def test_every_label_is_read_as_itself_whatever_the_labels_are(labels: list[str]) -> None:
    grader = Choice(labels=tuple(labels))
    for label in labels:
        assert grader.parse(label) == grader.parse_strict(label) == label
        assert [grader.score(label, example(other)) for other in labels] == [float(label == other) for other in labels]


@given(st.text(max_size=300))
def test_any_text_is_a_label_or_nothing_and_strict_is_never_more_than_lenient(text: str) -> None:
    found, strict = SENTIMENT.parse(text), SENTIMENT.parse_strict(text)
    assert found in (None, *SENTIMENT.labels)
    assert strict is None or strict == found


@pytest.mark.parametrize(
    ("beginning", "is_ruled_out"),
    [
        ("I'm not sure", True),
        ("The answer is", True),
        ("Sentiment: positive", True),
        ("post", True),
        ("posi12t", True),
        ("Ans: p", True),
        ("neutral", True),
        ("", None),
        (" \n**", None),
        ("Answ", None),
        ("**Answer:** ", None),
        ("Answer: 1. neg", None),
        ("12) (", None),
        ("pos", None),
        ("posi\ufffd", None),
        ("positive", False),
        ("positive, since", False),
        ("Answer: positive", False),
    ],
)
def test_an_answer_is_ruled_out_as_soon_as_it_cannot_begin_with_a_label(
    beginning: str, is_ruled_out: bool | None
) -> None:
    assert SENTIMENT.rules_out(beginning) is is_ruled_out


def test_a_label_that_begins_like_what_may_stand_in_front_is_not_ruled_out() -> None:
    grader = Choice(labels=("1 star", "2 stars", "answer: a"))
    for beginning in ("1 st", "**2) 1", "Answer: answer:"):
        assert not grader.rules_out(beginning), beginning
    assert grader.rules_out("3 stars")


PIECE = st.sampled_from(
    [
        *" \n*`'\"([{<_-#>~:.)1234567890",
        "Answer",
        "answer:",
        "10.",
        "2) ",
        "\u0301",
        "\u0345",
        "I",
        "\u0307",
        "\u1100",
        "\u1161",
    ]
)


LIKE_A_LEAD = st.sampled_from(["1 star", "2 stars", "10", "answer: a", "Answers", "12"])


@given(
    labels=st.lists(TEXT | LIKE_A_LEAD, min_size=2, max_size=4, unique_by=lambda label: nfc(nfc(label).casefold())),
    data=st.data(),
)
def test_what_is_ruled_out_names_no_label_whatever_follows(labels: list[str], data: st.DataObject) -> None:
    grader = Choice(labels=tuple(labels))
    parts = st.lists(PIECE | st.sampled_from([*labels, *(c for label in labels for c in label)]) | st.text(max_size=3))
    text = "".join(data.draw(parts))
    named = grader.parse(text)
    for end in range(len(text) + 1):
        if grader.rules_out(text[:end]):
            assert named is None, (labels, text[:end])
            assert grader.rules_out(text), "what is ruled out stays so"
        elif grader.rules_out(text[:end]) is False:
            assert grader.rules_out(text) is False, "what may name a label stays so"


def test_a_task_of_kind_choice_has_this_grader_with_its_labels() -> None:
    task = load_task("trec")
    assert isinstance(task.grader, Choice)
    assert task.grader.labels == task.label_texts
    assert not task.grader.is_graded
