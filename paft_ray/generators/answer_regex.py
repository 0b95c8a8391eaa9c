"""The grammar of guided answers: the model writes the words, the grammar forces each placeholder once, the letters of
options, the task's answer format and, for few labels, that they are named.

Every character may be written but two kinds: braces, which only placeholders have, and control characters, which the
gate refuses. Text is counted in words, so that its longest form does not end within one. White space of Python and of
the engine's grammar differ; no class is named by `\\s`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paft_ray.tasks.task import Task

_WORDS: Mapping[str, tuple[int, int]] = {
    "a few words": (1, 6),
    "one sentence": (4, 14),
    "two or three sentences": (8, 22),
    "a short paragraph": (12, 30),
}
_LONGEST_WORD = 24
"""Letters of a word. A small model that has no words left would go on within its last one to the end of its answer."""
_END = "[.?!:。？！：]"


@dataclass(frozen=True)
class _Script:
    """How text is written: as it is, or within a JSON string."""

    letter: str
    newline: str
    quote: str

    @property
    def word(self) -> str:
        return f"{self.letter}{{1,{_LONGEST_WORD}}}"

    @property
    def gap(self) -> str:
        return f"( |({self.newline}){{1,2}})"

    def words(self, least: int, most: int) -> str:
        """`least` to `most` words, each behind a gap."""
        return f"({self.gap}{self.word}){{{least},{most}}}"

    def literal(self, text: str) -> str:
        """The pattern of this text alone."""
        written = text if self is _PLAIN else json.dumps(text, ensure_ascii=False)[1:-1]
        return re.escape(written).replace(r"\ ", " ")  # the engine warns of escapes that it does not need


_PLAIN = _Script(letter=r"[^{} \x00-\x1f\x7f-\x9f]", newline=r"\n", quote='"')
_JSON = _Script(letter=r'([^"\\{} \x00-\x1f\x7f-\x9f]|\\["\\])', newline=r"\\n", quote=r"\\\"")


def template_regex(task: Task, axes: Mapping[str, str]) -> str:
    """Pattern of a template's text."""
    return _template(task, axes, _PLAIN)


def list_regex(task: Task, axes: Sequence[Mapping[str, str]], *, system: bool) -> str:
    """Pattern of a JSON array of one string per entry of `axes`; of objects with `system` and `text` where the
    templates have system parts."""
    opened, closed = '"', '"'
    if system:
        opened, closed = rf'\{{"system": "{_JSON.word}{_JSON.words(3, 20)}", "text": "', r'"\}'
    return rf"\[{', '.join(opened + _template(task, each, _JSON) + closed for each in axes)}\]"


def _template(task: Task, axes: Mapping[str, str], script: _Script) -> str:
    body = _body(task, script)
    least, most = _WORDS[axes["length"]]
    question = _question(task, least, most, script)
    cue = f"{script.letter}{{1,12}}( {script.letter}{{1,12}})?:"
    if axes["order"] == "question first":
        return f"{question}{script.gap}{body}({script.newline}{cue})?"
    if axes["order"] == "question last":
        return f"({cue}{script.gap})?{body}{script.gap}{question}"
    return f"{script.word}{script.words(1, 8)}{script.gap}{body}{script.gap}{question}"


def _body(task: Task, script: _Script) -> str:
    """The placeholders in the task's order, bare or in quotes, with few words between them."""
    letters = {name: script.literal(f"{label}: ") for label, name in task.options.items()}
    slots = [rf"{letters.get(name, '')}(\{{{name}\}}|{script.quote}\{{{name}\}}{script.quote})" for name in task.fields]
    return f"{script.words(0, 4)}{script.gap}".join(slots)


def _question(task: Task, least: int, most: int, script: _Script) -> str:
    """Free text, then a clause that names few labels, then the task's answer format."""
    free, labels = f"{script.word}{script.words(least, most)}{_END}", _labels(task, script)
    if labels:
        clause = f"({script.word}{script.gap}){{0,5}}{labels}{_END}?"
        free = f"({free}{script.gap})?{clause}" if least == 1 else f"{free}{script.gap}{clause}"
    return f"{free}{script.gap}{script.literal(task.answer_format)}" if task.answer_format else free


def _labels(task: Task, script: _Script) -> str:
    """The labels, in either order, as they may be listed; empty where they are many, or letters."""
    texts = task.label_texts
    if not 2 <= len(texts) <= 3 or any(len(text) <= 2 for text in texts):
        return ""
    listed = [
        "( or |, |/)".join(f"{mark}{script.literal(text)}{mark}" for text in order)
        for order in (texts, texts[::-1])
        for mark in ("", script.quote, r"\*\*")
    ]
    return f"({'|'.join(listed)})"
