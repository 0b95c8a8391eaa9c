"""Requests to generators: zero-shot, few-shot (paper, section 3.1) or to rewrite a seed template, along axes of
diversity, under a grammar; and what a generator answers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from paft_ray.config import Strategy
from paft_ray.generators.answer_regex import list_regex, template_regex
from paft_ray.generators.axes import drawn
from paft_ray.generators.completions import read_templates, templates_text
from paft_ray.prompts.sampling import keyed_order
from paft_ray.prompts.template import Literal, PromptTemplate, TemplateError
from paft_ray.tasks.task import Example, Task

_LONGEST_VALUE = 300  # characters of a row's value that a request shows


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request to a generator, for one template or more."""

    number: int
    """Of all requests of a run to one generator."""
    message: str
    """User message."""
    regex: str
    """The answer's grammar: free text around the task's placeholders, each once."""
    strategy: Strategy
    axes: tuple[dict[str, str], ...]
    """How each template that is asked for is to be written; none: the answer is no template, and taken as it is."""
    instruction: str | None = None
    """System message before the user's."""
    system: bool = False
    """Whether templates are to have system parts."""
    rewrites: str | None = None
    """Content id of the seed template that is to be rewritten."""

    @property
    def settings(self) -> str:
        """What decides the answer besides number and message."""
        return self.regex if self.instruction is None else json.dumps([self.regex, self.instruction])

    @property
    def is_list(self) -> bool:
        """Whether the answer is a JSON array; else it is the text of the one template."""
        return len(self.axes) > 1 or self.system

    def templates(self, text: str) -> list[PromptTemplate]:
        """The templates in an answer, in the order of `axes`, not more than these. Raises `ValueError` where a list
        was asked for and this is none."""
        if not self.is_list:
            return [PromptTemplate(text=text)]
        return read_templates(text, len(self.axes), system=self.system)

    def is_complete(self, text: str) -> bool:
        """Whether an answer under the grammar came to its end."""
        if not self.is_list:
            return re.fullmatch(self.regex, text) is not None
        try:
            return bool(self.templates(text))
        except ValueError:
            return False


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A generator's answer to one request."""

    text: str
    """Empty where none came."""
    finished: bool = True
    """False where the answer stops before its end."""
    missing: str = "failed"
    """Why there is no text, where there is none; empty where the answer itself has none."""
    tokens: int = 0
    """Generated tokens; they count against an endpoint's `max_total_tokens`."""
    first: tuple[tuple[str, float], ...] = ()
    """The most probable first tokens with their log-probabilities, where they were asked for and given."""


def request(
    task: Task,
    shots: Sequence[PromptTemplate],
    num_shots: int,
    seed: int,
    number: int,
    examples: Sequence[Example] = (),
    *,
    strategies: Sequence[Strategy] = ("zero_shot", "few_shot"),
    count: int = 1,
) -> Request:
    """Request `number` for `count` templates, fixed by (seed, number): strategies take turns where there are templates
    to show.

    `examples`: rows shown in it with their answers, long values truncated. System parts are asked for in every second
    turn where one of `shots` has one: then the user's model takes them.
    """
    axes = tuple(drawn(task, seed, number, place) for place in range(count))
    turn, of_turn = divmod(number, len(strategies))
    strategy = strategies[of_turn] if shots else "zero_shot"
    system = turn % 2 == 1 and any(shot.system for shot in shots)
    order = keyed_order([t.id for t in shots], seed, f"shots {number}")
    shown = [shots[i] for i in order[: {"few_shot": num_shots, "paraphrase": 1, "zero_shot": 0}[strategy]]]
    rewritten = shown[0] if strategy == "paraphrase" else None
    lines = [
        *_asked(task, rewritten, count),
        *(f"Style{f' of text {place}' if count > 1 else ''}: {_style(each)}." for place, each in enumerate(axes, 1)),
        *_told(task),
    ]
    if examples:
        lines += ["Rows of the data, only to show what the placeholders will hold:"]
        lines += [f"- {_shown(example)}" for example in examples]
    if strategy == "few_shot":
        lines += ["Examples of such texts:", *(f"- {_whole(shot)}" for shot in shown), "Write a different one."]
    is_list = system or count > 1
    return Request(
        number=number,
        message="\n".join([*lines, *([_form(count, system=system)] if is_list else [])]),
        regex=list_regex(task, axes, system=system) if is_list else template_regex(task, axes[0]),
        strategy=strategy,
        axes=axes,
        system=system,
        rewrites=rewritten.id if rewritten is not None else None,
    )


def _form(count: int, *, system: bool) -> str:
    if not system:
        return f"Answer with a JSON array of {count} strings."
    return (
        f"Answer with a JSON array of {count} objects, each with `text` and, in `system`, a sentence without "
        "placeholders on who the assistant is."
    )


def _asked(task: Task, rewritten: PromptTemplate | None, count: int) -> list[str]:
    fields = ", ".join(f"{{{name}}} ({what})" for name, what in task.fields.items())
    placeholders = f"Use each placeholder exactly once, as it is: {fields}."
    if rewritten is not None:
        how = "in other words and another style" if count == 1 else f"{count} times, each time in other words"
        return [f"Rewrite this text {how}. {task.description}", f"Text: {_whole(rewritten)}", placeholders]
    what = "the text that asks" if count == 1 else f"{count} different texts, each of which asks"
    return [f"Write {what} an assistant to do a task. {task.description}", placeholders]


def _style(axes: dict[str, str]) -> str:
    return "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in axes.items())


def _told(task: Task) -> list[str]:
    """What the task itself asks of every template."""
    lines = []
    if task.label_texts:
        lines.append(f"Say that the answer must be one of: {', '.join(task.label_texts)}. Do not give the answer.")
    if task.answer_format:
        lines.append(f"Say this, as it is: {task.answer_format}")
    if task.options:
        letters = ", ".join(f"{label}: {{{name}}}" for label, name in task.options.items())
        lines.append(f"Show each option behind its letter: {letters}.")
    return lines


def _whole(template: PromptTemplate) -> str:
    """A template as a request shows it."""
    return template.text if template.system is None else templates_text([template])


def _shown(example: Example) -> str:
    values = {**example.fields, "answer": example.answer}
    return "; ".join(
        f"{name}: {text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + '…'}"
        for name, text in values.items()
    )


def request_seed(seed: int, number: int) -> int:
    """The seed of the request with this number in a run with this seed."""
    return seed * 1_000_003 + number


def grammar_share(template: PromptTemplate, task: Task) -> float:
    """Fraction of the template's characters that the grammar forced: placeholders, label words, letters of options and
    the answer format. In [0, 1]."""
    try:
        literal = "".join(part.text for part in template.parts if isinstance(part, Literal))
    except TemplateError:
        return 0.0
    forced = (
        [label for label in task.label_texts if len(label) > 2]
        + [f"{label}: " for label in task.options]
        + [task.answer_format or ""]
    )
    words = sum(len(text) for text in forced if text in literal)
    slots = len(template.text) - len(literal)
    return round(min(1.0, (slots + words) / max(1, len(template.text))), 3)
