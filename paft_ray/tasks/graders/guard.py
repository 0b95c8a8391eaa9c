"""A grader of third parties, held to the contract."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from paft_ray.errors import UserError, one_line
from paft_ray.sanitize import masked
from paft_ray.tasks.example import Example
from paft_ray.tasks.graders.grader import UNJUDGED, ChecksReferences
from paft_ray.tasks.graders.plugins import Found
from paft_ray.tasks.graders.time_limit import time_limit

CALL_S = 10.0
"""Seconds that a grader may take for one answer."""


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """What a third party's grader says, checked. One that raises, returns what it may not or takes too long ends the
    command with a `UserError`: no answer is counted wrong for a fault of its grader. The answers are kept."""

    grader: Any
    name: str
    """Type and origin, for messages."""
    labels: tuple[str, ...]
    is_graded: bool

    def parse(self, completion: str) -> str | None:
        return self._text("parse", completion)

    def parse_strict(self, completion: str) -> str | None:
        return self._text("parse_strict", completion)

    def reference_fault(self, answer: str) -> str | None:
        if not isinstance(self.grader, ChecksReferences):
            return None if self.parse(answer) is not None else UNJUDGED
        reason = self._call("reference_fault", answer)
        return None if reason is None else f"grader says of the reference answer: {one_line(reason)[:200]}"

    def score(self, prediction: str, example: Example) -> float:
        value = self._call("score", prediction, example)
        number = float(value) if isinstance(value, Real) else math.nan
        if not 0 <= number <= 1 or not (self.is_graded or number in (0, 1)):
            wanted = "a number from 0 to 1" if self.is_graded else "0 or 1 (is_graded is false)"
            call = f"score({_shown(prediction)}, example {example.id[:40]!r})"
            raise self._fault(call, f"returned {value!r}", wanted)
        return number

    def _text(self, method: str, completion: str) -> str | None:
        value = self._call(method, completion)
        if value is not None and not isinstance(value, str):
            raise self._fault(f"{method}({_shown(completion)})", f"returned {value!r}", "text or None")
        if value is not None and self.labels and value not in self.labels:
            raise self._fault(f"{method}({_shown(completion)})", f"returned {value!r}", "one of its labels or None")
        return value

    def _call(self, method: str, text: str, *more: Example) -> Any:
        try:
            with time_limit(CALL_S):
                return getattr(self.grader, method)(text, *more)
        except (Exception, SystemExit) as error:
            reason = f"raised {type(error).__name__}: {one_line(error)[:200]}"
            raise self._fault(f"{method}({_shown(text)})", reason, "a result") from None

    def _fault(self, call: str, found: str, wanted: str) -> UserError:
        return UserError(
            f"{self.name}: {call} {one_line(found)[:300]}; {wanted} is needed; fix the grader and start again (answers "
            "that were given are kept)"
        )


def guarded(kind: str, settings: Mapping[str, Any], labels: tuple[str, ...], found: Found) -> Guarded:
    """The grader of this type with its settings, and with the task's labels where it has some. Raises `UserError` where
    it cannot be made of them."""
    name = f"grader {kind} of {found.origin}"
    try:
        with time_limit(CALL_S):
            made = found.maker(**settings, **({"labels": labels} if labels else {}))
            own, is_graded = tuple(made.labels), made.is_graded
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {one_line(error)[:200]}"
        raise UserError(f"{name}: cannot be made of the task's settings ({reason}); fix them, or the grader") from None
    if own != labels:
        raise UserError(f"{name}: its labels are {own}, those of the task {labels}; they must be the same")
    if not isinstance(is_graded, bool):
        raise UserError(f"{name}: is_graded is {is_graded!r}; True or False is needed")
    if missing := [part for part in ("parse", "parse_strict", "score") if not callable(getattr(made, part, None))]:
        raise UserError(f"{name}: has no {missing[0]}(); see docs/extending.md for what a grader needs")
    grader = Guarded(grader=made, name=name, labels=own, is_graded=is_graded)
    if unread := [label for label in own if grader.parse(label) != label]:
        raise UserError(
            f"{name}: parse({_shown(unread[0])}) gives {grader.parse(unread[0])!r}; a label, which is what is trained, "
            "must be read as itself; fix the grader"
        )
    return grader


def _shown(text: str) -> str:
    return repr(masked(text)[:60])
