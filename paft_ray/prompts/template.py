"""PromptTemplate: text with `{field}` placeholders, parsed strictly and rendered verbatim.

Only `{name}`, `{{` and `}}` have a meaning; attribute access, format specifications, conversions and unbalanced braces
are refused, so neither a template nor a field value can reach anything but the named fields.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from paft_ray.errors import UserError

_TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[{}]")


class TemplateError(UserError):
    """A template that cannot be parsed or lacks a field."""


@dataclass(frozen=True, kw_only=True)
class Literal:
    """Fixed text of a template, braces already unescaped."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Place of a field's value."""

    field: str


Part = Literal | Slot


@dataclass(frozen=True, kw_only=True)
class PromptTemplate:
    """A template of the complete task input."""

    text: str
    """User part with `{field}` placeholders."""
    system: str | None = None
    """System part, without placeholders; plain models get it above the text, after an empty line."""
    group: str | None = field(default=None, compare=False)
    """Group of its file that it is counted to, such as `plain`: no part of its content, so not of its id either."""
    frame: str | None = field(default=None, compare=False)
    """Frame of the grammar that composed it: a split keeps templates of one frame on one side."""

    @cached_property
    def id(self) -> str:
        """Content id: 16 hex digits over system part and text."""
        return hashlib.sha256(json.dumps([self.system, self.text], ensure_ascii=True).encode()).hexdigest()[:16]

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Parsed text. Raises `TemplateError`."""
        return parse(self.text)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the placeholders, in order, with repeats."""
        return tuple(part.field for part in self.parts if isinstance(part, Slot))

    def reworded(self, change: Callable[[str], str]) -> str:
        """The text of a template whose own words are changed; its placeholders stay. Raises `TemplateError`."""
        return "".join(
            escaped(change(part.text)) if isinstance(part, Literal) else f"{{{part.field}}}" for part in self.parts
        )

    def render(self, values: Mapping[str, str]) -> str:
        """The text with every field's value inserted verbatim. Raises `TemplateError` for a field without a value."""
        pieces = []
        for part in self.parts:
            if isinstance(part, Literal):
                pieces.append(part.text)
            elif part.field in values:
                pieces.append(values[part.field])
            else:
                raise TemplateError(
                    f"template {self.id}: no value for {{{part.field}}}; the example has: {', '.join(values)}"
                )
        return "".join(pieces)


def escaped(text: str) -> str:
    """Text as a template writes it, braces doubled."""
    return text.replace("{", "{{").replace("}", "}}")


def parse(text: str) -> tuple[Part, ...]:
    """Literals and slots of a template's text; neighboring literals are joined. Raises `TemplateError` with the
    place."""
    parts: list[Part] = []
    literal = ""
    end = 0
    for match in _TOKEN.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        token = match.group()
        if token in ("{{", "}}"):
            literal += token[0]
        elif match.group(1) is None:
            raise TemplateError(
                f"template: stray {token!r} at character {match.start()}; write {{field}} for a field, {{{{ and "
                f"}}}} for braces"
            )
        else:
            if literal:
                parts.append(Literal(text=literal))
                literal = ""
            parts.append(Slot(field=match.group(1)))
    literal += text[end:]
    if literal:
        parts.append(Literal(text=literal))
    return tuple(parts)


def check_fields(template: PromptTemplate, required: Iterable[str]) -> None:
    """Raises `TemplateError` unless the template names each required field and no other."""
    named, wanted = set(template.fields), set(required)
    if missing := sorted(wanted - named):
        raise TemplateError(f"template {template.id}: missing {', '.join('{' + f + '}' for f in missing)}")
    if unknown := sorted(named - wanted):
        raise TemplateError(
            f"template {template.id}: unknown {', '.join('{' + f + '}' for f in unknown)}; fields of the task: "
            f"{', '.join(sorted(wanted))}"
        )
