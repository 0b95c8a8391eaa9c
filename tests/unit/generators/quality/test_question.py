"""The judge's question: options, orders, and what is read from the answers."""

import math

import pytest

from paft_ray.generators.quality.question import Question, akin
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task, built_in_tasks, load_task

DEMO = load_task("demo")


@pytest.mark.parametrize("task", built_in_tasks(), ids=lambda task: task.name)
def test_the_options_are_the_task_and_every_other_kind_of_task(task: Task) -> None:
    question = Question.about(task)
    assert question.options[0] == task
    assert all(question.option_of(other) is not None for other in built_in_tasks())
    assert question.option_of(task) == 0
    assert len(question.task.label_texts) == len(question.options) + 1


def test_demo_and_sst2_are_one_option_and_tasks_with_letters_are_apart() -> None:
    assert akin(DEMO, load_task("sst2"))
    assert not akin(load_task("piqa"), load_task("winogrande"))
    assert not akin(DEMO, load_task("trec"))
    assert [option.name for option in Question.about(DEMO).options] == [
        "demo",
        "gsm8k",
        "hellaswag",
        "piqa",
        "race",
        "trec",
        "winogrande",
    ]


def test_a_task_of_ones_own_with_braces_in_its_description_is_an_option() -> None:
    own = DEMO.model_copy(
        update={"name": "own", "description": "Fill {slot} in\nas the ticket says.", "labels": {"a": "yes", "b": "no"}}
    )
    question = Question.about(own)
    rendered = question.templates[0].render({"text": "T"})
    assert "A. Fill {slot} in as the ticket says.\n" in rendered
    assert DEMO.description in rendered


def test_the_second_order_is_the_reverse_and_begins_alike() -> None:
    question = Question.about(DEMO)
    first, second = (
        template.render({"text": "{text}"}).split("\n\n")[1].split("\n") for template in question.templates
    )
    assert [line[3:] for line in first] == [line[3:] for line in second][::-1]
    assert [line[0] for line in first] == list(question.task.label_texts)


def test_fields_do_not_give_the_task_away() -> None:
    template = PromptTemplate(text="Tell me: {goal}? {sol1} {sol2}", system="Be brief.")
    assert Question.about(DEMO).example(template).fields == {"text": "Be brief.\nTell me: [...]? [...] [...]"}


def test_log_odds_are_those_of_the_order_that_is_less_sure() -> None:
    question = Question.about(DEMO)
    others = len(question.options)
    sure = [math.log(0.9), *[math.log(0.1 / others)] * others]
    unsure = [math.log(0.5), *[math.log(0.5 / others)] * others]
    assert question.log_odds(0, [sure, sure[::-1]]) == pytest.approx(math.log(9))
    assert question.log_odds(0, [sure, unsure[::-1]]) == pytest.approx(0)
    assert question.log_odds(0, [sure, sure]) == pytest.approx(math.log(0.1 / others / (1 - 0.1 / others)))
    assert math.isnan(question.log_odds(0, [sure, [math.nan] * (others + 1)]))


def test_a_letter_that_was_said_is_sure_and_bounded() -> None:
    question = Question.about(DEMO)
    first, last = question.as_logprobs("A"), question.as_logprobs(question.task.label_texts[-1])
    assert question.log_odds(0, [first, last]) == 6
    assert question.log_odds(0, [first, first]) == -6
    assert question.log_odds(3, [first, last]) == -6
    assert all(map(math.isnan, question.as_logprobs(None)))
