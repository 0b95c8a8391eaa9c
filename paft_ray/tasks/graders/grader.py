"""What every grader does: it finds the judged part of an answer, and scores it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from paft_ray.tasks.example import Example


class Grader(Protocol):
    """How the answers of a task are judged. Pure: the same answer has the same score on every machine."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The allowed answers, those of the task; `()`: answers are generated only, there is no knowledge measure."""
        ...

    @property
    def is_graded(self) -> bool:
        """Whether a score may lie between 0 and 1."""
        ...

    def parse(self, completion: str) -> str | None:
        """The judged part of an answer, read leniently; None: nothing that could be judged. Never raises."""
        ...

    def parse_strict(self, completion: str) -> str | None:
        """Likewise without leniency."""
        ...

    def score(self, prediction: str, example: Example) -> float:
        """How good what was parsed is, in [0, 1]; 1 for the reference itself. Never raises."""
        ...


@runtime_checkable
class ChecksReferences(Protocol):
    """A grader that says itself why a reference is of no use; of others one is that cannot be parsed."""

    def reference_fault(self, answer: str) -> str | None:
        """Why no answer could be right against this reference, and what to do; None: it is good."""
        ...


UNJUDGED = "the reference answer holds nothing that the task's grader could judge; fix the row or the grader"
"""Why a reference is of no use that cannot be parsed."""


class GraderSettings(BaseModel):
    """Base of the graders of this package: their settings are the keys of `grader` in a task."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
