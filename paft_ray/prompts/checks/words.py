"""Words of a template: what the task forces into it, and what is said besides."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from paft_ray.prompts.template import PromptTemplate, Slot
from paft_ray.tasks.task import Task

FIELD = "\0"
"""Stands for a field's value in the text that is inspected."""
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_SMALL = frozenset(
    _WORD.findall(
        "a an the this that these those it its he she they them their his her we us our you your i me my one ones "
        "and or but nor so if then than as at by for from in into of off on onto out over to under up with without "
        "is are was were be been being am do does did have has had will would can could shall should may might must "
        "not no very too also just only here there"
    )
)
"""English words that ask for nothing by themselves."""


def literal(template: PromptTemplate) -> str:
    """The template's own text, system part first, each field as `FIELD`. Raises `TemplateError`."""
    text = "".join(FIELD if isinstance(part, Slot) else part.text for part in template.parts)
    return f"{template.system}\n{text}" if template.system else text


def content_words(text: str, task: Task) -> list[str]:
    """Words in small letters that neither the task forces (labels, names of fields, letters of options) nor are small
    ones."""
    forced = {word.lower() for name in task.fields for word in (name, *_WORD.findall(name.replace("_", " ")))}
    found = (word.lower() for word in _WORD.findall(without_labels(text, task)))
    return [word for word in found if word not in _SMALL and word not in forced]


def without_labels(text: str, task: Task) -> str:
    """The text without the task's labels, in any letter case."""
    return _pattern(task.label_texts).sub(" ", text) if task.label_texts else text


def names(text: str, label: str) -> bool:
    """Whether a text names a label as a word; letter case counts in labels of one letter (`a` is an article)."""
    return _pattern((label,)).search(text) is not None


@lru_cache(maxsize=256)
def _pattern(labels: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{any_of(labels)})(?!\w)")


def any_of(labels: Iterable[str]) -> str:
    """Pattern of any of the labels, the longest first; letter case counts in those of one letter."""
    return "|".join(
        re.escape(label) if len(label) == 1 else f"(?i:{re.escape(label)})"
        for label in sorted(labels, key=len, reverse=True)
    )
