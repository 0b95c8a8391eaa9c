"""The grammar of guided answers: every placeholder once, any character but braces and control characters."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.generators.answer_regex import list_regex, template_regex
from paft_ray.generators.axes import axes
from paft_ray.prompts.gate import gate
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task, load_task

TASKS = [load_task(name) for name in ("demo", "gsm8k", "hellaswag", "race", "trec", "winogrande")]
DEMO = TASKS[0]
ORDERS = axes(DEMO)["order"]
WORDS = st.text(
    st.characters(exclude_characters="{} ", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12
)


def style(order: str, length: str = "one sentence") -> dict[str, str]:
    return {"order": order, "length": length}


def text(task: Task, order: str, words: list[str]) -> str:
    """A text of the grammar: at least nine words around the placeholders."""
    letters = {name: f"{label}: " for label, name in task.options.items()}
    body = "\n".join(f"{letters.get(name, '')}{{{name}}}" for name in task.fields)
    labels = " negative, positive?" if task is DEMO else ""
    asked = f"{' '.join(words)}:{labels}" + (f" {task.answer_format}" if task.answer_format else "")
    if order == "question first":
        return f"{asked}\n\n{body}\nAnswer:"
    return f"{body}\n{asked}" if order == "question last" else f"{' '.join(words[:4])}\n{body}\n{asked}"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_every_placeholder_stands_once_and_the_gate_takes_it(task: Task, order: str) -> None:
    pattern = template_regex(task, style(order))
    written = text(task, order, ["Please", "tell", "me", "what", "you", "make", "of", "the", "following"])
    assert re.fullmatch(pattern, written)
    assert gate([written], task, max_words=120).kept
    first = f"{{{next(iter(task.fields))}}}"
    assert not re.fullmatch(pattern, written.replace(first, "", 1))
    assert not re.fullmatch(pattern, f"{written}\n{first}")
    assert not re.fullmatch(pattern, written.replace("tell", "{tell}"))


@given(words=st.lists(WORDS, min_size=9, max_size=12), order=st.sampled_from(ORDERS), task=st.sampled_from(TASKS))
def test_words_of_any_script_may_be_written_and_a_list_holds_them_too(words: list[str], order: str, task: Task) -> None:
    written = text(task, order, words)
    assert re.fullmatch(template_regex(task, style(order)), written)
    assert sorted(PromptTemplate(text=written).fields) == sorted(task.fields)
    listed = json.dumps([written, written], ensure_ascii=False)
    assert re.fullmatch(list_regex(task, [style(order)] * 2, system=False), listed)
    system = json.dumps([{"system": "You help with small tasks.", "text": written}], ensure_ascii=False)
    assert re.fullmatch(list_regex(task, [style(order)], system=True), system)


@given(
    place=st.floats(0, 1),
    inserted=st.text(st.sampled_from("{}text \n\x00a"), max_size=8),
    order=st.sampled_from(ORDERS),
    task=st.sampled_from(TASKS),
)
def test_whatever_the_grammar_lets_through_has_each_placeholder_once(
    place: float, inserted: str, order: str, task: Task
) -> None:
    written = text(task, order, ["Please", "tell", "me", "what", "you", "make", "of", "the", "following"])
    at = int(place * len(written))
    changed = written[:at] + inserted + written[at:]
    if re.fullmatch(template_regex(task, style(order)), changed):
        assert sorted(PromptTemplate(text=changed).fields) == sorted(task.fields)


@pytest.mark.parametrize("bad", ["\x00", "\x1b", "\t", "\x7f", "\x85", "\r", "{", "}"])
def test_braces_and_control_characters_are_all_that_is_forbidden(bad: str) -> None:
    words = ["Please", "tell", "me", "what", "you", "make", "of", "the", "following"]
    pattern = template_regex(DEMO, style("question last"))
    assert re.fullmatch(pattern, text(DEMO, "question last", words))
    assert not re.fullmatch(pattern, text(DEMO, "question last", [words[0] + bad, *words[1:]]))
    assert re.fullmatch(pattern, text(DEMO, "question last", ['**"3', *words[1:]]))


def test_a_word_has_an_end() -> None:
    pattern = template_regex(DEMO, style("question last"))
    words = ["Please", "tell", "me", "what", "you", "make", "of", "the", "following"]
    assert re.fullmatch(pattern, text(DEMO, "question last", ["x" * 24, *words]))
    assert not re.fullmatch(pattern, text(DEMO, "question last", ["x" * 25, *words]))


def test_the_longest_text_grows_with_the_length_that_is_asked_for() -> None:
    words = [f"word{i}" for i in range(18)]
    fits = [
        bool(re.fullmatch(template_regex(DEMO, style("question last", length)), text(DEMO, "question last", words)))
        for length in axes(DEMO)["length"]
    ]
    assert fits == [False, False, True, True]
