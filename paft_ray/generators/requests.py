"""Requests to a generator model: half zero-shot, half few-shot (paper, section 3.1), along axes of diversity, under a
grammar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from paft_ray.prompts.sampling import PerExample, keyed_order
from paft_ray.prompts.template import Literal, PromptTemplate, TemplateError
from paft_ray.tasks.task import Example, Task

_AXES: dict[str, tuple[str, ...]] = {
    "tone": ("formal", "friendly", "casual", "terse", "polite", "professional", "curious", "strict"),
    "format": ("one sentence", "two short sentences", "a question", "an instruction", "a form with headings"),
    "order": ("question first", "question last"),
}
_LONGEST_VALUE = 300  # characters of a row's value that a request shows
_FREE_TEXT = r"[A-Za-z ,.'?:!;\n-]"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request to a generator."""

    message: str
    """User message."""
    regex: str
    """The answer's grammar: free text around the task's placeholders, each once."""
    strategy: str
    """`zero_shot` or `few_shot`."""
    axes: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A generator's answer to one request."""

    text: str
    """Empty where none came."""
    finished: bool = True
    """False where the answer stops before its end."""
    missing: str = "failed"
    """Why there is no text, where there is none."""
    tokens: int = 0
    """Generated tokens that count against an endpoint's `max_total_tokens`."""


def request(
    task: Task,
    shots: Sequence[PromptTemplate],
    num_shots: int,
    seed: int,
    number: int,
    examples: Sequence[Example] = (),
) -> Request:
    """Request `number`, fixed by (seed, number): even ones zero-shot, odd ones few-shot where there are templates to
    show.

    `examples`: rows shown in it with their answers, long values truncated.
    """
    draw = PerExample(seed=seed)
    axes = {
        name: values[draw.index(epoch=0, example_id=f"{name}-{number}", index_in_epoch=0, num_templates=len(values))]
        for name, values in _AXES.items()
    }
    few = bool(shots) and number % 2 == 1
    fields = ", ".join(f"{{{name}}} ({what})" for name, what in task.fields.items())
    lines = [
        "Write the text that asks an assistant to do a task. " + task.description,
        f"Use each placeholder exactly once, as it is: {fields}.",
        f"Style: {axes['tone']}; {axes['format']}; {axes['order']}.",
    ]
    if task.label_texts:
        lines.append(f"Say that the answer must be one of: {', '.join(task.label_texts)}. Do not give the answer.")
    if task.options:
        lines.append(
            "Show each option behind its letter: "
            f"{', '.join(f'{label}: {{{name}}}' for label, name in task.options.items())}."
        )
    if examples:
        lines += [
            "Rows of the data, only to show what the placeholders will hold:",
            *(f"- {_shown(example)}" for example in examples),
        ]
    if few:
        order = keyed_order([t.id for t in shots], seed, f"shots {number}")[:num_shots]
        lines += ["Examples of such texts:", *(f"- {shots[i].text}" for i in order), "Write a different one."]
    return Request(
        message="\n".join(lines),
        regex=grammar(task, axes["order"]),
        strategy="few_shot" if few else "zero_shot",
        axes=axes,
    )


def _shown(example: Example) -> str:
    values = {**example.fields, "answer": example.answer}
    return "; ".join(
        f"{name}: {text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + '…'}"
        for name, text in values.items()
    )


def request_seed(seed: int, number: int) -> int:
    """The seed of the request with this number in a round with this seed."""
    return seed * 1_000_003 + number


def grammar(task: Task, order: str) -> str:
    """A regular expression: the model writes the text, the grammar forces the placeholders with the letters of
    options, the task's answer format and, for few labels, that they are named."""
    letters = {name: f"{label}: " for label, name in task.options.items()}
    slots = [re.escape(letters.get(name, "")) + rf"\{{{name}\}}" for name in task.fields]
    body = rf"{_FREE_TEXT}{{1,24}}".join(slots)
    labels = (
        [re.escape(label) for label in task.label_texts]
        if 2 <= len(task.label_texts) <= 3 and all(len(x) > 2 for x in task.label_texts)
        else []
    )
    named = rf"({' or '.join(labels)}|{' or '.join(reversed(labels))})" if labels else ""
    question = rf"[A-Z]{_FREE_TEXT}{{12,90}} {named}[?.:]" if named else rf"[A-Z]{_FREE_TEXT}{{16,140}}[?.:]"
    if task.answer_format:
        question = f"{question} {re.escape(task.answer_format)}"
    if order == "question first":
        return rf"{question}\n{body}(\n[A-Z][a-z]{{3,12}}:)?"
    return rf"([A-Z][a-z]{{3,12}}: )?{body}\n{question}"


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
