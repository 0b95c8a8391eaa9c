"""The judge's question, `which task does this text ask for?`, as a task with labels of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_uppercase

from paft_ray.models.files import most_tokens
from paft_ray.models.reference import ModelFiles
from paft_ray.prompts.checks.words import FIELD, content_words, literal
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Example, Task, built_in_tasks

_NONE = "Something else, or nothing that is clear."
SHOWN_FIELD = "[...]"
"""Stands for every field: what a field holds would give the task away."""
_LONGEST = 1024
"""Tokens of a question with its answer; a text that does not fit is truncated."""
_AKIN = 0.5
"""Jaccard similarity of the content words of two descriptions from which they are of one task."""
_LARGEST_ODDS = 6.0
"""Nats; an answer of a model that gives no probabilities counts as this."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """The same question with its options in two orders, one the reverse of the other."""

    options: tuple[Task, ...]
    """The task that is synthesized for, then others; `none of these` is one more option."""

    @classmethod
    def about(cls, task: Task) -> Question:
        """The question for a task: with the shipped tasks that are not the same or one another's kind."""
        options = [task]
        for other in built_in_tasks():
            if not any(akin(other, known) for known in options):
                options.append(other)
        return cls(options=tuple(options))

    @cached_property
    def task(self) -> Task:
        """The task of the judge: its labels are the letters of the options."""
        letters = list(ascii_uppercase[: len(self.options) + 1])
        return Task(
            name="judge",
            kind="choice",
            description="Say which task a text asks for.",
            fields={"text": "the text"},
            labels={letter: letter for letter in letters},
        )

    @cached_property
    def templates(self) -> tuple[PromptTemplate, PromptTemplate]:
        """The question in both orders. The text comes after the options, so that all questions begin alike."""
        descriptions = [*(task.description for task in self.options), _NONE]
        first, second = (self._template(order) for order in (descriptions, descriptions[::-1]))
        return first, second

    def _template(self, descriptions: Sequence[str]) -> PromptTemplate:
        lines = [
            f"{letter}. {' '.join(text.split())}"
            for letter, text in zip(self.task.label_texts, descriptions, strict=True)
        ]
        options = "\n".join(lines).replace("{", "{{").replace("}", "}}")
        return PromptTemplate(
            text=f"Somebody wrote a text that is sent to an assistant. {SHOWN_FIELD} stands for data that is filled "
            f"in. Which task does the text ask for?\n\n{options}\n\nThe text:\n\n{{text}}\n\nWhich task does the text "
            "ask for? Answer with its letter.\nAnswer:"
        )

    def example(self, template: PromptTemplate) -> Example:
        """The template as a row of the judge's task. Its answer is not known; the first letter stands there."""
        shown = literal(template).replace(FIELD, SHOWN_FIELD)
        return Example(id=template.id, fields={"text": shown}, answer=self.task.label_texts[0])

    def option_of(self, task: Task) -> int | None:
        """Number of the option that stands for a task, None where none does."""
        return next((number for number, option in enumerate(self.options) if akin(task, option)), None)

    def log_odds(self, option: int, logprobs: Sequence[Sequence[float]]) -> float:
        """Log-odds (nats) of an option against all the others, the smaller one of both orders.

        `logprobs`: [order][letter], normalized. NaN where one is.
        """
        found = []
        for order, values in enumerate(logprobs):
            value = values[option if order == 0 else len(values) - 1 - option]
            if math.isnan(value):
                return math.nan
            found.append(value - math.log1p(-math.exp(value)) if value < 0 else math.inf)
        return max(-_LARGEST_ODDS, min(_LARGEST_ODDS, *found))

    def as_logprobs(self, letter: str | None) -> list[float]:
        """[letter] What a model said, of which nothing else is known, as log-probabilities; NaN where it named no
        letter."""
        letters = self.task.label_texts
        if letter is None:
            return [math.nan] * len(letters)
        return [0.0 if each == letter else -math.inf for each in letters]


def longest_question(model: ModelFiles) -> int:
    """Tokens of a question with its answer at most, not more than the model reads."""
    return min(_LONGEST, most_tokens(model.path) or _LONGEST)


def akin(one: Task, other: Task) -> bool:
    """Whether two tasks ask for the same: the same labels that are words, or descriptions in mostly the same words."""
    if one.label_texts and set(one.label_texts) == set(other.label_texts) and all(len(x) > 1 for x in one.label_texts):
        return True
    a, b = set(content_words(one.description, one)), set(content_words(other.description, other))
    return len(a & b) >= _AKIN * len(a | b) > 0
