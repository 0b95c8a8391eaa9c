"""Grader `exact_match`: the answer is the reference, but for case, punctuation, articles and white space."""

from __future__ import annotations

from typing import ClassVar

from paft_ray.tasks.example import Example
from paft_ray.tasks.graders.grader import GraderSettings
from paft_ray.tasks.graders.lead import without_lead
from paft_ray.tasks.graders.normalized import normalized
from paft_ray.tasks.pattern import LONGEST_TEXT


class ExactMatch(GraderSettings):
    """Right or wrong, by equality of normalized texts (SQuAD's exact match). Leniently, the first line is judged,
    without quotes, Markdown and `Answer:` in front; strictly, the whole answer, which is one line."""

    is_graded: ClassVar[bool] = False
    labels: ClassVar[tuple[str, ...]] = ()

    def parse(self, completion: str) -> str | None:
        """The first line; None where there is none."""
        lines = without_lead(completion[:LONGEST_TEXT]).splitlines()
        return lines[0].strip() if lines else None

    def parse_strict(self, completion: str) -> str | None:
        """The whole answer; None for none, or for several lines."""
        text = completion.strip()
        return text if len(text.splitlines()) == 1 else None

    def score(self, prediction: str, example: Example) -> float:
        """1 where it is the reference, normalized, else 0."""
        references = (self.parse(example.answer) or "", example.answer)
        return float(normalized(prediction) in map(normalized, references))

    def reference_fault(self, answer: str) -> str | None:
        """That it is empty, or that it has several lines, of which one would be judged."""
        if len(answer.strip().splitlines()) > 1:
            return "the reference answer has several lines, of which exact_match judges the first; use grader token_f1"
        return None if self.parse(answer) else "the reference answer holds nothing to compare; fix the row"
