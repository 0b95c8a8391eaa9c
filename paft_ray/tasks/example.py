"""One row of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row of a task."""

    id: str
    """Given by the data, else a content hash and occurrence number; unique in a run."""
    fields: Mapping[str, str]
    """Text of every field of the task."""
    answer: str
    """Label text (of a task with labels) or the complete reference answer."""
