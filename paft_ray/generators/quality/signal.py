"""Signals: figures that should be higher the more a template asks for a task. Whether one may decide anything, its
calibration says (`calibration`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A question: does this template ask for this task?"""

    template: PromptTemplate
    task: Task
    """The task that is synthesized for, or another one that ships."""


class Signal(Protocol):
    """One way to answer such questions. Its own errors are those of its model: `StageError`, `UserError`."""

    @property
    def name(self) -> str:
        """Of this way, with that of its model."""
        ...

    @property
    def threshold(self) -> float:
        """From this score on it is sure that the template asks for the task."""
        ...

    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        """One score per question, in their order; NaN where it could not tell."""
        ...
