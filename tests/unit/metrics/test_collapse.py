"""Collapsed templates are named, and balanced accuracy does not reward them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.metrics.collapse import balanced_accuracy, collapsed_templates
from tests.support.made_outcomes import outcome_row, outcome_table


def rows(said: list[str | None], answers: list[str], template: str = "t", arm: str = "sft") -> list[dict[str, Any]]:
    return [
        outcome_row(arm, template, str(number), answer, one)
        for number, (one, answer) in enumerate(zip(said, answers, strict=True))
    ]


def test_one_answer_on_nearly_every_row_is_named_also_none_at_all() -> None:
    answers = ["a", "b"] * 20
    made = outcome_table(
        rows(["a"] * 39 + ["b"], answers, "one")
        + rows([None] * 40, answers, "silent")
        + rows(["a"] * 38 + ["b"] * 2, answers, "not quite")
        + rows(answers, answers, "right")
        + rows(["a"] * 40, ["a"] * 40, "right, for all rows are a")
    )
    found = [(c.arm, c.template_id, c.answer, c.fraction) for c in collapsed_templates(made)]
    assert found == [("sft", "one", "a", 0.975), ("sft", "silent", None, 1.0)]


def test_without_labels_the_grader_says_what_is_right_not_the_reference() -> None:
    """A reference holds more than the parsed answer: nothing that is said ever equals it."""
    reference = ["half of 8 is 4 #### 4"] * 40
    made = outcome_table(
        [{**row, "behavior": 1.0, "strict": 0.0} for row in rows(["4"] * 40, reference, "right")]
        + [{**row, "behavior": 0.0, "strict": 0.0} for row in rows(["5"] * 40, reference, "wrong")]
        + [{**row, "behavior": 0.5, "strict": 0.5} for row in rows(["4 or 5"] * 40, reference, "half right")],
        labels=("unused", "labels"),
    )
    found = [(c.template_id, c.answer) for c in collapsed_templates(made)]
    assert found == [("half right", "4 or 5"), ("wrong", "5")]


@given(data=st.data())
def test_templates_and_labels_are_counted_as_a_plain_loop_counts_them(data: st.DataObject) -> None:
    made = [
        row
        for arm in ("base", "paft")
        for template in ("one", "two")
        for row in rows(
            data.draw(st.lists(st.sampled_from(["a", "a", "a", None]), min_size=6, max_size=6)),
            ["a", "b", "b", "a", "c", "c"],
            template,
            arm,
        )
    ]
    table = outcome_table(made)
    expected = {
        (arm, template)
        for arm in ("base", "paft")
        for template in ("one", "two")
        if len({row["predicted"] for row in made if (row["arm"], row["template_id"]) == (arm, template)}) == 1
    }
    for column in ("named", "predicted"):
        assert {(c.arm, c.template_id) for c in collapsed_templates(table, column)} == expected
    for arm, found in balanced_accuracy(table).items():
        of_label = [[row["correct"] for row in made if (row["arm"], row["answer"]) == (arm, label)] for label in "abc"]
        assert found == pytest.approx(sum(sum(each) / len(each) for each in of_label) / 3)


@given(num_a=st.integers(1, 30), num_b=st.integers(1, 30))
def test_a_constant_answer_has_a_balanced_accuracy_of_one_in_the_number_of_labels(num_a: int, num_b: int) -> None:
    answers = ["a"] * num_a + ["b"] * num_b
    assert balanced_accuracy(outcome_table(rows(["a"] * len(answers), answers))) == {"sft": 0.5}


def test_balanced_accuracy_averages_labels_then_seeds() -> None:
    made = rows(["a", "a", "b", "b"], ["a", "a", "a", "b"])
    again = [{**row, "seed": 1} for row in rows(["a", "a", "a", "a"], ["a", "a", "a", "b"])]
    assert balanced_accuracy(outcome_table(made + again)) == {"sft": pytest.approx(((2 / 3 + 1) / 2 + 0.5) / 2)}
    assert balanced_accuracy(outcome_table(made + again), "correct")["sft"] == pytest.approx(2 / 3)


def test_one_label_or_an_unknown_score_has_none() -> None:
    assert balanced_accuracy(outcome_table(rows(["a"], ["a"]))) == {"sft": None}
    assert balanced_accuracy(outcome_table([{**row, "behavior": None} for row in rows(["a", "b"], ["a", "b"])])) == {
        "sft": None
    }
