"""What a quality check says of a template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Of one check on one template."""

    score: float | None
    """The higher, the more the template asks for the task; None: the check has no figure, or could not tell."""
    passed: bool
    reason: str | None = None
    """One word for counting, where it did not pass."""


class Check(Protocol):
    """Tells templates that ask for a task from others."""

    def check(self, candidates: Sequence[PromptTemplate], task: Task) -> list[Verdict]:
        """One verdict per candidate, in their order."""
        ...
