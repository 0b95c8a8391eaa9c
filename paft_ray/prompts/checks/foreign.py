"""Whether a template asks for something else than its task."""

from __future__ import annotations

import re
from functools import lru_cache

from paft_ray.prompts.checks.words import FIELD, names
from paft_ray.tasks.task import Task, built_in_tasks

_LANGUAGE = (
    r"(?:Arabic|Chinese|Czech|Danish|Dutch|English|Finnish|French|German|Greek|Hebrew|Hindi|Hungarian|Italian|Japanese|"
    r"Korean|Latin|Norwegian|Polish|Portuguese|Romanian|Russian|Spanish|Swedish|Thai|Turkish|Ukrainian|Vietnamese)"
)
_TRANSLATE = re.compile(rf"\btranslate\b[^.!?\n]{{0,60}}\b(?:in|to|into)\s+{_LANGUAGE}\b", re.IGNORECASE)
_WRITE = re.compile(
    rf"(?:^|[.!?:;\n{FIELD}])\W*(?:please\s+|now\s+)?(?:"
    r"(?:summari[sz]e|paraphrase|rewrite|rephrase|proofread)\s+(?:the|this|that|it)\b"
    r"|(?:write|compose|tell|create)\s+(?:me\s+)?(?:an?|the)\s+(?:\w+\s+)?"
    r"(?:poem|story|essay|song|haiku|joke|summary|headline|blog\s+post|e-?mail|recipe)\b"
    r"|fix\s+the\s+(?:grammar|spelling)|continue\s+the\s+story)",
    re.IGNORECASE,
)
"""An order to write something."""
_SHORT_ANSWER = re.compile(r"\b(?:word|adjective|noun|label|letter)\b", re.IGNORECASE)
_LETTERS = re.compile(r"\b[A-H](?:\s*[,/]\s*[A-H]){0,7}(?:\s*/\s*|\s*,?\s+or\s+)[A-H]\b")


def asks_for_another_task(text: str, task: Task) -> bool:
    """A translation or a piece of writing where a label is to be chosen, the labels of another task that ships instead
    of its own, or letters that are no labels. `text`: as `words.literal`."""
    if _TRANSLATE.search(text) and "translat" not in task.description.lower():
        return True
    labels = task.label_texts
    if any(len(label) > 1 for label in labels) and _names_all(text, labels):
        return False
    writes = bool(labels) and _WRITE.search(text) is not None and _SHORT_ANSWER.search(text) is None
    letters = {letter for found in _LETTERS.findall(text) for letter in re.findall(r"[A-H]", found)}
    return (
        writes
        or not letters <= set(labels)
        or any(_names_all(text, other) for other in _word_labels() if _is_foreign(other, task))
    )


def _names_all(text: str, labels: tuple[str, ...]) -> bool:
    return all(names(text, label) for label in labels)


def _is_foreign(labels: tuple[str, ...], task: Task) -> bool:
    """None of these labels belongs to the task or is a word of its description."""
    own = {label.lower() for label in task.label_texts}
    return not any(label.lower() in own or names(task.description, label) for label in labels)


@lru_cache(maxsize=1)
def _word_labels() -> tuple[tuple[str, ...], ...]:
    """Labels of the shipped tasks whose labels are words."""
    found = (task.label_texts for task in built_in_tasks())
    return tuple({labels: None for labels in found if labels and all(len(label) > 1 for label in labels)})
