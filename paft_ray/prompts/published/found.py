"""What is found in a file of templates, and why one cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from paft_ray.prompts.template import PromptTemplate


class Unusable(Exception):
    """A published template that does not pose the task, or not in plain text."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        """One word for counting."""
        self.detail = detail
        """What in the template it is about; may be empty."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One template of a file."""

    name: str
    """In its file: a name or a number."""
    text: str
    """As the file has it."""
    template: PromptTemplate | None = None
    """In our form, not yet through the gate; None where `reason` says why."""
    reason: str | None = None
    detail: str = ""


def found(name: str, text: object, convert: Callable[[], PromptTemplate]) -> Found:
    """A template with what `convert` makes of it, or the reason why it makes nothing."""
    shown = text if isinstance(text, str) else ""
    try:
        return Found(name=name, text=shown, template=convert())
    except Unusable as error:
        return Found(name=name, text=shown, reason=error.reason, detail=error.detail)
