"""Whether a template states an answer anywhere, rather than listing the labels or asking whether one holds."""

from __future__ import annotations

import re

from paft_ray.prompts.checks.words import FIELD, any_of
from paft_ray.tasks.task import Task

_CLAUSE = re.compile(rf"(?<=[.!?;\n{FIELD}])")
_LEAD = (
    r"(?:answer|label|sentiment|class|category|verdict|result|output|reply|response|choice|prediction|tone|solution)"
)
_TELLS = r"(?:answer|say|reply|respond|write|output|return|choose|pick|select|state|print)"
_STATES = (
    r"\b(?:the|this|that|your|my|its|correct|right|best|only|final)\W+(?:\w+\W+){0,6}?"
    r"(?:is|are|was|were|(?:must|should|shall|has\W+to|will|can\W+only)\W+(?:always\W+)?be)\W+(?:always\W+|clearly\W+)?"
)
_ORDERS = rf"\b(?:(?:always|just|simply|must|should)\W+{_TELLS}|{_TELLS}\W+always)\W+(?:with\W+)?"
_MARKS = rf"^\W*(?:\w+\W+)?{_LEAD}\s*[:=]\W*"
_TAIL = r"(?:\W+(?:and\W+nothing\W+else|only|always|please))?[^\w?]*$"
_STATES = rf"(?:{_STATES}|^\W*it\W+(?:is|was)\W+)"
_LETTER = rf"\b{_LEAD}\W+(?:is|must\W+be|should\W+be)\W+"
_OPEN = re.compile(
    r"\b(?:if|unless|when|whenever|otherwise|else|whether|which|what|where|how|who|examples?|e\.g|instance|such|sample|like|means?)\b"
    r"|^\W*(?:do|does|did|would|could|should|can|may|is|are|was|were|an?|any|every|each)\b"
    r"|\b(?:check|verify|confirm|ensure|sure|likely|chance|probability|wonder|decide|guess)\b"
    r"|\b\w+\s+that\s+(?:is|are)\b",
    re.IGNORECASE,
)
"""A clause that asks, sets a condition, defines or shows an example."""
_EXAMPLE = re.compile(r"\b(?:examples?|e\.g|for\s+instance|sample)\b", re.IGNORECASE)


def states_an_answer(text: str, task: Task) -> bool:
    """Whether one label alone is stated as the answer: `The review below is positive.`, `Always answer positive.`

    A text that states several (`good: positive`, `bad: negative`) lists them, one with an example shows one. A task
    without labels states none that could be found in a text. `text`: as `words.literal`.
    """
    labels = task.label_texts
    if not labels or _EXAMPLE.search(text):
        return False
    stated = {label for clause in _CLAUSE.split(text) if (label := _stated(clause, labels)) is not None}
    return len(stated) == 1


def _stated(clause: str, labels: tuple[str, ...]) -> str | None:
    """The label that a clause states, None where it names none or several."""
    named = {found.lower() for found in re.findall(rf"(?<!\w)(?:{any_of(labels)})(?!\w)", clause)}
    if len(named) != 1 or _OPEN.search(clause):
        return None
    (label,) = named
    leads = (_LETTER, _MARKS) if len(label) == 1 else (_STATES, _ORDERS, _MARKS)
    this = rf"[\s\"'“‘(\[*`]*(?i:{re.escape(label)})"
    return label if any(re.search(rf"(?i:{lead}){this}{_TAIL}", clause) for lead in leads) else None
