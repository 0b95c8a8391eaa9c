"""Grader `token_f1`: how many words answer and reference share."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from paft_ray.tasks.example import Example
from paft_ray.tasks.graders.grader import GraderSettings
from paft_ray.tasks.graders.lead import without_lead
from paft_ray.tasks.graders.normalized import normalized


class TokenF1(GraderSettings):
    """SQuAD's F1: harmonic mean of the shares of words that answer and reference have in common, after normalization.
    Leniently, quotes, Markdown and `Answer:` in front do not count; strictly, the whole answer is judged."""

    is_graded: ClassVar[bool] = True
    labels: ClassVar[tuple[str, ...]] = ()

    def parse(self, completion: str) -> str | None:
        """The answer without what may stand in front; None where nothing is left."""
        return without_lead(completion) or None

    def parse_strict(self, completion: str) -> str | None:
        """The whole answer; None for none."""
        return completion.strip() or None

    def score(self, prediction: str, example: Example) -> float:
        """F1 of the words, in [0, 1]; the better one where the reference itself has such a beginning."""
        words = normalized(prediction).split()
        references = {self.parse(example.answer) or "", example.answer}
        return max(_f1(words, normalized(reference).split()) for reference in references)


def _f1(words: list[str], reference: list[str]) -> float:
    common = (Counter(words) & Counter(reference)).total()
    return 2 * common / (len(words) + len(reference)) if common else 0.0
