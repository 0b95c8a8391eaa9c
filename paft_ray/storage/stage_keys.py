"""Keys of stages: in what two of them differ, and which differences a user may accept."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from paft_ray.errors import UserError
from paft_ray.sanitize import masked

_NEVER = (
    *("task", "grader", "data", "sources", "validation", "test", "seed", "seeds"),
    *("cells", "evaluate.budget", "score.num_examples"),  # which rows are answered
    *("prompts", "templates", "validation_templates", "inputs"),
    *("model.id", "model.revision", "model.identity", "model.chat_frame", "generators", "models", "sha256"),
)
"""Entries whose change makes it another experiment: task, rows, templates and weights."""
_ENTRY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One leaf in which two keys differ."""

    entry: str
    """Dotted path, such as `versions.torch`."""
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.entry}: {_short(self.old)} -> {_short(self.new)}"

    @property
    def acceptable(self) -> bool:
        """Whether a finished stage may be kept in spite of it."""
        return not any(_covers(entry, self.entry) for entry in _NEVER)


def compare_keys(old: Any, new: Any, prefix: str = "") -> list[Difference]:
    """Every leaf that differs, by its path."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for name in sorted({*old, *new})
            for difference in compare_keys(old.get(name), new.get(name), f"{prefix}.{name}" if prefix else name)
        ]
    return [] if old == new else [Difference(entry=prefix, old=old, new=new)]


def differences(old: Any, new: Any) -> list[str]:
    """`a.b: 1 -> 2` for each leaf that differs."""
    return [str(difference) for difference in compare_keys(old, new)]


def check_accepted(accept: Sequence[str]) -> None:
    """Raises `UserError` for an entry that is never accepted, or that no key can have."""
    for entry in accept:
        if not _ENTRY.fullmatch(entry):
            raise UserError(
                f"--accept {entry[:60]}: no entry of a stage's key; give it as the message has it, e.g. versions.torch"
            )
        if any(_covers(never, entry) for never in _NEVER):
            raise UserError(
                f"--accept {entry}: another task, other rows, templates or weights are another experiment, a finished "
                "stage is never kept for them; use another name or --force to replace it"
            )


def left_over(found: Sequence[Difference], manifest: Mapping[str, Any], accept: Sequence[str]) -> list[Difference]:
    """The differences that were not accepted: neither now, by `accept`, nor before, as the manifest records it."""
    known = [_names(entry) for entry in _accepted(manifest)]
    return [
        difference
        for difference in found
        if not difference.acceptable
        or not (
            any(_covers(entry, difference.entry) for entry in accept)
            or (difference.entry, difference.old, difference.new) in known
        )
    ]


def refusal(what: str, refused: Sequence[Difference]) -> str:
    """Why a finished stage is neither kept nor replaced, and what to do. `what`: names stage and run."""
    remedy = "use another name or --force to replace it"
    if all(difference.acceptable for difference in refused):
        remedy += "".join([", or keep it with", *(f" --accept {difference.entry}" for difference in refused)])
    return f"{what} was made with other settings ({'; '.join(map(str, refused))}); {remedy}"


def with_accepted(manifest: Mapping[str, Any], found: Sequence[Difference]) -> dict[str, Any]:
    """The manifest of a stage that is kept in spite of differences, each recorded once with old and new value and the
    time of its acceptance."""
    before = _accepted(manifest)
    known = [_names(entry) for entry in before]
    date = datetime.now(UTC).isoformat(timespec="seconds")
    new = [
        {"key": difference.entry, "old": difference.old, "new": difference.new, "date": date}
        for difference in found
        if (difference.entry, difference.old, difference.new) not in known
    ]
    return {**manifest, "accepted": [*before, *new]} if new else dict(manifest)


def _accepted(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a manifest records of accepted differences; nothing where it is damaged."""
    found = manifest.get("accepted")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _names(entry: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return entry.get("key"), entry.get("old"), entry.get("new")


def _covers(entry: str, path: str) -> bool:
    """Whether `entry` is `path` or a part of the key that holds it."""
    return path == entry or path.startswith(f"{entry}.")


def _short(value: Any) -> str:
    text = masked(json.dumps(value))
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
        return text[:13] + '..."'
    return text if len(text) <= 60 else text[:57] + "..."
