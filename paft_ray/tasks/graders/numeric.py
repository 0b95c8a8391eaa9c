"""Grader `numeric`: the last number of the answer is the reference's, within a tolerance."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, ClassVar

from pydantic import Field

from paft_ray.tasks.example import Example
from paft_ray.tasks.graders.grader import GraderSettings
from paft_ray.tasks.pattern import finditer

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,300})(?![0-9])(?:\.[0-9]{1,300}(?![0-9]))?"
_NUMBER = (
    rf"(?<![\w.])(?P<sign>[-+\u2212]?)[$€£¥]?"
    rf"(?P<value>(?:{_DIGITS}|\.[0-9]{{1,300}}(?![0-9]))(?:[eE][-+]?[0-9]{{1,3}}(?![0-9]))?)(?![eE][-+]?[0-9])"
)
"""A number that begins a word: with a sign, a currency, commas between thousands, a decimal point, an exponent. Numbers
of more digits are none: no answer needs them, and their arithmetic would take long."""


class Numeric(GraderSettings):
    """Right or wrong, by value. Leniently, the last number of the answer is judged; strictly, the answer is one
    number."""

    is_graded: ClassVar[bool] = False
    labels: ClassVar[tuple[str, ...]] = ()
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """Largest difference from the reference's number that is still right."""

    def parse(self, completion: str) -> str | None:
        """The last number, without commas; None without one, or where the search takes too long."""
        found = _numbers(completion)
        return _plain(found[-1]) if found else None

    def parse_strict(self, completion: str) -> str | None:
        """The number that the answer is; None for anything else."""
        text = completion.strip()
        found = _numbers(text)
        return _plain(found[0]) if len(found) == 1 and found[0].group() == text else None

    def score(self, prediction: str, example: Example) -> float:
        """1 where the numbers differ by no more than the tolerance, else 0."""
        reference = self.parse(example.answer)
        if reference is None:
            return 0.0
        return float(abs(Fraction(prediction) - Fraction(reference)) <= Fraction(str(self.tolerance)))

    def reference_fault(self, answer: str) -> str | None:
        """That it holds no number."""
        return None if self.parse(answer) else "the reference answer holds no number; fix the row"


def _numbers(text: str) -> list[Any]:
    try:
        return finditer(_NUMBER, text)
    except TimeoutError:
        return []


def _plain(match: Any) -> str:
    """The number as Python reads it."""
    sign = "-" if match.group("sign") in ("-", "\u2212") else ""
    return sign + match.group("value").replace(",", "")
