"""Axes of diversity: how a template is to be written, drawn anew for each one that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paft_ray.prompts.sampling import PerExample
from paft_ray.tasks.task import Task

_STYLE: Mapping[str, Sequence[str]] = {
    "tone": ("formal", "friendly", "casual", "terse", "polite", "professional", "curious", "strict"),
    "format": (
        "a question",
        "an instruction",
        "a request",
        "a form with headings",
        "a dialogue",
        "Markdown",
        "a sentence to complete",
        "numbered steps",
    ),
    "length": ("a few words", "one sentence", "two or three sentences", "a short paragraph"),
    "order": ("question first", "question last", "question before and after"),
    "register": ("everyday words", "technical words", "words for a child", "spoken", "bureaucratic", "literary"),
    "persona": ("nobody", "a teacher", "a customer", "a manager", "a scientist", "a journalist", "a friend", "a coder"),
}
_CUES = ("a cue such as 'Answer:' at the end", "no cue at the end")
_OF_LABELS = ("the answer alone", "the allowed answers as a list", "the allowed answers in a sentence")


def axes(task: Task) -> dict[str, Sequence[str]]:
    """Axis -> its values, for templates of a task; what an answer may look like is open where it has labels."""
    return {**_STYLE, "answer_format": (*_CUES, *_OF_LABELS) if task.label_texts else _CUES}


def drawn(task: Task, seed: int, number: int, place: int = 0) -> dict[str, str]:
    """Axis -> value for the template at `place` of request `number`, uniform, fixed by (seed, number, place)."""
    draw, template = PerExample(seed=seed), f"{number}.{place}" if place else str(number)
    return {
        name: values[draw.index(epoch=0, example_id=f"{name}-{template}", index_in_epoch=0, num_templates=len(values))]
        for name, values in axes(task).items()
    }
