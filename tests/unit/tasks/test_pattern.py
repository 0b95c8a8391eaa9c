"""Patterns of free tasks: what they find is what `re` finds, within limits of time and size."""

import re
import time
from typing import Any

import pytest

from paft_ray.errors import UserError
from paft_ray.prompts.gate import rejection
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.pattern import LONGEST_TEXT, PatternError, check_pattern, finditer
from paft_ray.tasks.task import Task, load_task
from tests.unit.inference.test_evaluator import grid

GSM8K = str(load_task("gsm8k").pattern)
TEXTS = [
    "so it is #### 1,234",
    "####$-7.5 and #### 8",
    "a\n####  12.\n#### 3",
    "no number ####",
    r"\boxed{3} and \boxed{ x_{1} }",
    "Answer: B\nAnswer: (C)",
    "answer{s} 5 answers 6",
    "",
    "x" * 200 + "#### 1",
]
PATTERNS = [
    GSM8K,
    r"\\boxed{(.*?)}",
    r"(?i)answer:\s*\(?([a-d])\)?",
    r"####\s*(\S+)",
    r"answer{s} (\d)",
    r"(\d{1,3})(?!\d)",
    r"(x*)",
    r"(?m)^(\w+)",
    r"([^\n{}]+)",
]


def looping(name: str = "t") -> Task:
    return Task(name=name, kind="free", description="d", fields={"text": "a text"}, pattern=r"((?:a|aa)+)$")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_finds_what_re_finds(pattern: str) -> None:
    check_pattern(pattern)
    for text in TEXTS:
        assert [match.groups() for match in finditer(pattern, text)] == [
            match.groups() for match in re.finditer(pattern, text)
        ]


@pytest.mark.parametrize(
    "pattern",
    [
        "(?:" * 5000 + "(a)" + ")" * 5000,
        "(a{1000000000})",
        "(?:(?:(a{100}){100}){100})",
        "(" + "a?" * 9000 + ")",
        "(",
        "a",
        "(a)(b)",
        "[" * 5000,
    ],
)
def test_a_pattern_that_cannot_be_taken_is_refused_at_once(pattern: str) -> None:
    start = time.process_time()
    with pytest.raises(PatternError):
        check_pattern(pattern)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("pattern", [r"((?:x+x+)+)y", r"((?:a|aa)+)$", r"(?:(.*)*)*z", r"((?:\w+\s?)+):"])
@pytest.mark.parametrize("text", ["x" * 40, "a" * 60 + "b", "word " * 2000, "xy" * 100_000])
def test_a_search_ends_in_time(pattern: str, text: str) -> None:
    task = looping().model_copy(update={"pattern": pattern})
    start = time.process_time()
    task.grader.parse(text)
    assert time.process_time() - start < 10


def test_a_completion_that_takes_too_long_is_not_parsed_and_a_reference_is_refused_with_its_row() -> None:
    task, text = looping(), "a" * 60 + "b"
    assert task.grader.parse(text) is None
    assert task.grader.parse("aa") == "aa"
    with pytest.raises(UserError, match=r"rows.jsonl:3: pattern '.*' searches the reference answer for over 1 s"):
        task.example({"text": "x", "label": text}, "rows.jsonl:3")


def test_only_the_beginning_of_a_text_is_searched() -> None:
    assert load_task("gsm8k").grader.parse("x" * (LONGEST_TEXT - 10) + "#### 7") == "7"
    assert load_task("gsm8k").grader.parse("x" * LONGEST_TEXT + "#### 7") is None


def test_a_template_on_which_the_pattern_does_not_end_is_kept() -> None:
    assert rejection(PromptTemplate(text="{text} " + "a" * 60 + "b"), looping(), max_words=120) is None


def test_the_grid_judges_a_completion_that_takes_too_long_as_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Any = grid(monkeypatch, None)
    object.__setattr__(asked, "task", looping())
    object.__setattr__(asked, "examples", (asked.examples[0].__class__(id="n", fields={"text": "1"}, answer="aa"),))
    rows = [
        {"key": f"[{i}, 0, false]", "token_ids": [ord(c) for c in text], "latency_s": None}
        for i, text in enumerate(["a" * 60 + "b", "aa"])
    ]
    assert [(o["parsed"], o["correct"], o["predicted"]) for o in asked.judge([rows]).outcomes.to_pylist()] == [
        (False, False, None),
        (True, True, "aa"),
    ]
