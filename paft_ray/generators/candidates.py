"""What stage synthesize recorded of the candidates, as templates again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from paft_ray.prompts.gate import repair
from paft_ray.prompts.prompt_set import Entry
from paft_ray.prompts.template import PromptTemplate

_ORIGIN = ("strategy", "axes", "rewrites", "grammar_share", "frame")


def recorded(rows: Iterable[Mapping[str, Any]]) -> list[Entry | None]:
    """The template of each row of raw.jsonl, repaired as the gate saw it, with its provenance; None for an answer
    without text."""
    return [_entry(row) if row.get("text") else None for row in rows]


def _entry(row: Mapping[str, Any]) -> Entry:
    template, _ = repair(PromptTemplate(text=row["text"], system=row.get("system")))
    origin = {name: row[name] for name in _ORIGIN if name in row}
    return Entry(template=template, provenance={"source": row["generator"], **origin})
