"""Exports of PromptSuite: JSON or CSV of variations, each a system part (`instruction`) and a `prompt format` with
`{field}`, filled with a row; and its template dictionaries themselves."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from paft_ray.errors import UserError
from paft_ray.prompts.published.found import Found, Unusable, found
from paft_ray.prompts.published.names import Names
from paft_ray.prompts.template import PromptTemplate

_PLACE = re.compile(r"\{(\w+)\}")
_COLUMN = "field_"


def is_prompt_suite(value: Any) -> bool:
    """Whether a JSON value is such an export, or a template dictionary."""
    rows = value if isinstance(value, list) else [value]
    return bool(rows) and all(isinstance(row, dict) and _pair(row) is not None for row in rows)


def is_prompt_suite_csv(text: str) -> bool:
    """Whether the head of a CSV file is that of an export."""
    head = text.partition("\n")[0]
    return head.startswith("prompt,original_row_index,variation_count")


def csv_rows(text: str, path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV export in the form of a JSON one. Raises `UserError`."""
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise UserError(f"templates {path}: not CSV ({error}); give an export of PromptSuite") from None
    return [
        {"field_values": {name[len(_COLUMN) :]: v for name, v in row.items() if name and name.startswith(_COLUMN)}}
        for row in rows
    ]


def prompt_suite(value: Any, names: Names, path: Path) -> list[Found]:
    """Every template of the export once, whatever number of rows it was filled with."""
    rows = value if isinstance(value, list) else [value]
    distinct = dict.fromkeys(parts for row in rows if (parts := _pair(row)) is not None)
    return [
        found(f"variation {number}", parts[1], partial(_template, *parts, names))
        for number, parts in enumerate(distinct, start=1)
    ]


def _pair(row: Mapping[str, Any]) -> tuple[str | None, str, str | None] | None:
    """(instruction, prompt format, name of the answer) of a variation; None where it is none."""
    holder = row["configuration"] if isinstance(row.get("configuration"), dict) else row
    config = holder.get("template_config", {} if "field_values" in holder else holder)
    values = holder.get("field_values", {})
    if not isinstance(config, dict) or not isinstance(values, dict):
        return None
    given, varied = _spaced(config), _spaced(values)
    system = _first(varied.get("instruction variations"), varied.get("instruction"), given.get("instruction"))
    text = _first(varied.get("prompt format variations"), varied.get("prompt format"), given.get("prompt format"))
    if text is None:  # an earlier version: the instruction is the whole prompt
        system, text = None, system
    gold = given.get("gold")
    gold = gold.get("field") if isinstance(gold, dict) else gold
    return None if text is None or not _PLACE.search(text) else (system, text, gold if isinstance(gold, str) else None)


def _spaced(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name).replace("_", " "): value for name, value in values.items()}


def _first(*values: Any) -> str | None:
    return next((value for value in values if isinstance(value, str) and value), None)


def _template(system: str | None, text: str, gold: str | None, names: Names) -> PromptTemplate:
    """Without the answer at its end, as PromptSuite asks for it."""
    answers = [gold] if gold else sorted(names.answers)
    for answer in answers:
        text = text.strip().removesuffix(f"{{{answer}}}").rstrip()
    if gold and f"{{{gold}}}" in text:
        raise Unusable("answer_in_prompt", gold)
    if system and _PLACE.search(system):  # a system part of ours holds no field: it stands above the text, as there
        system, text = None, f"{system}\n\n{text}"
    return PromptTemplate(text=_ours(text, names), system=system)


def _ours(text: str, names: Names) -> str:
    """The text in our form: its places renamed, every other brace text."""
    pieces: Iterable[str] = (
        f"{{{names.field(piece)}}}" if number % 2 else piece.replace("{", "{{").replace("}", "}}")
        for number, piece in enumerate(_PLACE.split(text))
    )
    return "".join(pieces)
