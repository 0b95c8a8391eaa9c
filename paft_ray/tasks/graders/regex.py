"""Grader `regex`: the answer is what a pattern finds."""

from __future__ import annotations

from typing import ClassVar

from pydantic import field_validator

from paft_ray.sanitize import masked
from paft_ray.tasks.example import Example
from paft_ray.tasks.graders.grader import GraderSettings
from paft_ray.tasks.pattern import MATCH_S, PatternError, check_pattern, finditer


class Regex(GraderSettings):
    """Right where the pattern's group finds the same in answer and reference. The pattern is the format that the task
    asks for, so that there is no stricter reading."""

    is_graded: ClassVar[bool] = False
    labels: ClassVar[tuple[str, ...]] = ()
    pattern: str
    """Regular expression whose first group is the final answer, in completion and reference alike."""

    @field_validator("pattern", mode="after")
    @classmethod
    def _can_be_taken(cls, pattern: str) -> str:
        try:
            check_pattern(pattern)
        except PatternError as error:
            raise ValueError(str(error)) from None
        return pattern

    def parse(self, completion: str) -> str | None:
        """What the group holds at the pattern's last match, without commas and a period at its end; None without a
        match, or without one in time."""
        try:
            return self._last_match(completion)
        except TimeoutError:
            return None

    def parse_strict(self, completion: str) -> str | None:
        """The same."""
        return self.parse(completion)

    def score(self, prediction: str, example: Example) -> float:
        """1 where the reference holds the same, else 0."""
        return float(prediction == self.parse(example.answer))

    def reference_fault(self, answer: str) -> str | None:
        """That the pattern finds nothing in it, or not in time."""
        pattern = f"pattern {masked(self.pattern)[:100]!r}"
        try:
            if self._last_match(answer) is None:
                return f"the reference answer does not match {pattern}; fix the row or the pattern"
        except TimeoutError:
            return (
                f"{pattern} searches the reference answer for over {MATCH_S:g} s; write one without repeats of repeats"
            )
        return None

    def _last_match(self, text: str) -> str | None:
        """Raises `TimeoutError`."""
        matches = finditer(self.pattern, text)
        return (matches[-1].group(1) or "").replace(",", "").rstrip(".").strip() if matches else None
