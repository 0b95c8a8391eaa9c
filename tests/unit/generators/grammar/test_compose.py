"""The grammar: templates that ask for a task in sound English, without a model."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paft_ray.errors import UserError
from paft_ray.generators.grammar.compose import compose, diverse_templates, ordered_frames
from paft_ray.generators.grammar.frames import FRAMES
from paft_ray.generators.grammar.words import heading, listed, words_of
from paft_ray.prompts.gate import rejection, repair
from paft_ray.prompts.similarity import clusters
from paft_ray.prompts.template import check_fields
from paft_ray.tasks.task import Task, load_task

BUILT_IN = ("demo", "sst2", "trec", "gsm8k", "hellaswag", "piqa", "race", "winogrande")
TASKS = {name: load_task(name) for name in BUILT_IN}
OWN = {"name": "own", "kind": "choice", "fields": {"text": "the text"}, "labels": ["yes", "no"]}


def own(**values: object) -> Task:
    return Task.model_validate({"description": "Say whether the text is a question.", **OWN, **values})


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_hundred_templates_of_a_built_in_task_pass_the_gate_and_differ(name: str) -> None:
    task = TASKS[name]
    found = diverse_templates(task, 100, seed=0)
    assert len(found) == len({template.id for template in found}) == 100
    assert [rejection(template, task, max_words=120) for template in found] == [None] * 100
    assert len(set(clusters(found, 0.7))) >= 80
    assert len({template.frame for template in found}) >= 60


@settings(max_examples=100)
@given(st.sampled_from(BUILT_IN), st.integers(0, 2**32), st.integers(0, 10_000))
def test_every_template_asks_for_its_task_and_ends_where_the_answer_begins(name: str, seed: int, number: int) -> None:
    task, words = TASKS[name], words_of(TASKS[name])
    frames = ordered_frames(words, seed)
    found = compose(words, frames[number % len(frames)], seed, number)
    assert found == compose(words, frames[number % len(frames)], seed, number)
    check_fields(found, task.fields)
    assert sorted(found.fields) == sorted(task.fields)  # each once
    assert words.do in found.text.lower() or words.do in found.text
    assert rejection(found, task, max_words=120) is None
    assert repair(found)[0].text == found.text
    assert not found.text.rstrip("\n").endswith("}")  # the answer does not run on from a field's value
    if words.answer_format:
        assert words.answer_format in found.text


@pytest.mark.parametrize("name", BUILT_IN)
def test_sentences_are_written_as_sentences(name: str) -> None:
    for template in diverse_templates(TASKS[name], 150, seed=3):
        text = template.text
        assert re.search(r"<(?:do|Do|Please do|it|below)>", text) is None
        assert re.search(r"\w +[.,:;?!]| {2}|\.\.|\?\.|\n{3}|[.?!] [a-z]| \n", text) is None, text
        assert text[0] in '"{*#<->' or text[0].isupper() or text[0].isdigit()


def test_the_seed_decides_and_a_larger_number_of_frames_comes_first() -> None:
    task = TASKS["demo"]
    assert diverse_templates(task, 20, seed=1) == diverse_templates(task, 20, seed=1)
    assert {t.id for t in diverse_templates(task, 20, seed=1)} != {t.id for t in diverse_templates(task, 20, seed=2)}
    words = words_of(task)
    assert len({frame.id for frame in ordered_frames(words, 5)}) == len(ordered_frames(words, 5)) >= 60
    assert len({frame.id for frame in FRAMES}) == len(FRAMES)


def test_frames_that_name_an_answer_with_letters_or_labels_stay_with_such_tasks() -> None:
    families = {name: {frame.id for frame in ordered_frames(words_of(TASKS[name]), 0)} for name in BUILT_IN}
    cloze = {frame.id for frame in FRAMES if frame.scope == "choice"}
    letters = {frame.id for frame in FRAMES if frame.scope == "plain"}
    assert cloze <= families["piqa"]
    assert not cloze & families["gsm8k"]
    assert letters <= families["gsm8k"]
    assert not letters & families["piqa"]


@pytest.mark.parametrize(
    ("description", "why"),
    [
        ("Sentiment of a review.", "does not begin with a verb"),
        ("The review is positive or negative.", "does not begin with a verb"),
        ("Classifies a review.", "does not begin with a verb"),
        ("Classifying reviews.", "does not begin with a verb"),
        ("Is the review positive or negative?", "does not begin with a capital letter and end with a period"),
        ("decide whether it is good.", "does not begin with a capital letter and end with a period"),
        ("Decide whether it is good", "does not begin with a capital letter and end with a period"),
        ("Read the review. Then say whether it is good.", "is more than one sentence"),
        ("Say what you think of the review.", "speaks of `you`"),
    ],
)
def test_a_description_that_is_no_request_of_one_sentence_is_refused_in_one_line(description: str, why: str) -> None:
    with pytest.raises(UserError, match=re.escape(why)) as caught:
        words_of(own(description=description))
    assert "\n" not in str(caught.value)
    assert "for a grammar write one sentence" in str(caught.value)


@pytest.mark.parametrize("what", ["text", "The text", "review text", "the text."])
def test_a_field_that_is_no_noun_with_an_article_is_refused(what: str) -> None:
    with pytest.raises(UserError, match=r"fields\.text: .* cannot stand in a sentence"):
        words_of(own(fields={"text": what}))


def test_braces_of_a_task_stay_text() -> None:
    task = own(
        description="Say whether {text} is set in {braces}.",
        fields={"text": "the {raw} text"},
        labels=["{yes}", "no"],
    )
    for template in diverse_templates(task, 40, seed=0):
        assert template.fields == ("text",)
        assert "whether {text} is set in {braces}" in template.render({"text": "<do>"})


def test_many_labels_are_not_listed() -> None:
    task = own(labels=[f"label number {number}" for number in range(60)])
    assert all(rejection(t, task, max_words=120) is None for t in diverse_templates(task, 40, seed=0))
    assert not any("label number 7" in t.text for t in diverse_templates(task, 40, seed=0))


def test_small_words() -> None:
    assert [listed(list("abc")[:n], "or") for n in range(4)] == ["", "a", "a or b", "a, b or c"]
    assert [heading(noun) for noun in ("the first solution", "what the customer asks")] == [
        "First solution",
        "What the customer asks",
    ]
