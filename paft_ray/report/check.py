"""What a measurement had to reach, and whether it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of one model."""

    model: str
    what: str
    passed: bool
    said: str
    """What was found and what was wanted."""


Checks = Callable[[Mapping[str, Any]], Sequence[Check]]
"""Content of results.json -> checks."""
