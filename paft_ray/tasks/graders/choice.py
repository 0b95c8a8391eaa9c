"""Grader `choice`: the answer is one of the task's labels."""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property
from typing import ClassVar

from pydantic import field_validator

from paft_ray.tasks.example import Example
from paft_ray.tasks.graders.grader import GraderSettings
from paft_ray.tasks.graders.lead import without_leads
from paft_ray.tasks.values import nfc

_OPENED = re.compile(r"\A(?:[\s(\[{<•*_`\"'-]|\d{1,2}[.)]\s)+")
"""Brackets and marks of a list in front of an answer."""
_LONGEST_LEAD = 1000
"""Characters before and behind a label that are looked at."""


class Choice(GraderSettings):
    """Right or wrong. Leniently, an answer is the label that it begins with, whatever follows, but for a letter or a
    digit; letter case, quotes, brackets, Markdown, marks of a list and `Answer:` in front do not count, but a label of
    one letter is no small word ("a matter of taste" is not A). Strictly, it is the label alone."""

    is_graded: ClassVar[bool] = False
    labels: tuple[str, ...] = ()

    @field_validator("labels", mode="after")
    @classmethod
    def _two(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(labels) < 2:
            raise ValueError("a task of kind choice needs at least two")
        return labels

    def parse(self, completion: str) -> str | None:
        """The label that the answer begins with; the longest of several."""
        text = completion.lstrip()[: _LONGEST_LEAD + max(map(len, self.labels))]
        parts = [*without_leads(text)]
        parts += [_OPENED.sub("", part) for part in parts]
        return next((label for part in parts if (label := self._first(part))), None)

    def rules_out(self, beginning: str) -> bool | None:
        """Whether `parse` finds no label in any answer that begins so. False: one may be found whatever follows; None:
        what follows decides.

        Compares letters and digits alone, behind any number of digits and `answer`, which may all stand in front.
        """
        letters = _letters(beginning.rstrip("\ufffd"))  # an incomplete character at the end may become any other
        leads = re.match(r"(?:\d|answer)*", letters)
        rests = [letters[start:] for start in range(leads.end() + 1 if leads else 1)]
        if any(rest.startswith(label) for rest in rests for label in self._bare):
            return False
        return not any(label.startswith(rest) for rest in rests for label in (*self._bare, "answer")) or None

    def parse_strict(self, completion: str) -> str | None:
        """The label that the whole answer is, but for spaces around it and its Unicode form."""
        text = nfc(completion.strip())
        return next((label for label in self.labels if nfc(label) == text), None)

    def score(self, prediction: str, example: Example) -> float:
        """1 where it is the right label, else 0."""
        return float(prediction == example.answer)

    @cached_property
    def _spelt(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """(spelling without case, the labels that have it), the longest first."""
        spellings: dict[str, list[str]] = {}
        for label in self.labels:
            spellings.setdefault(_caseless(label), []).append(label)
        return tuple((key, tuple(found)) for key, found in sorted(spellings.items(), key=lambda item: -len(item[0])))

    @cached_property
    def _bare(self) -> tuple[str, ...]:
        return tuple(map(_letters, self.labels))

    def _first(self, text: str) -> str | None:
        """The longest label that the text begins with; of two that differ in case alone the one in the text's case."""
        caseless, written = _caseless(text), nfc(text)
        for spelling, labels in self._spelt:
            if caseless.startswith(spelling) and not _goes_on(caseless[len(spelling) :]):
                exact = [label for label in labels if written.startswith(nfc(label))]
                if not exact and len(spelling) == 1 and any(map(str.isalnum, caseless[1:])):
                    continue
                return next(iter(exact or (labels if len(labels) == 1 else ())), None)
        return None


def _caseless(text: str) -> str:
    return nfc(nfc(text).casefold())


def _letters(text: str) -> str:
    """Letters and digits of a text without case and accents."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFD", _caseless(text))))


def _goes_on(rest: str) -> bool:
    """Whether a word goes on: with a letter, a digit, or a mark on the letter before."""
    return bool(rest) and unicodedata.category(rest[0])[0] in "LNM"
