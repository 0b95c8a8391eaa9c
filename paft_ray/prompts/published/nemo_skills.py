"""Prompt files of NeMo Skills: `user` and `system` with `{field}`; without examples `{examples}` is empty."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paft_ray.prompts.published.found import Found, Unusable, found
from paft_ray.prompts.published.names import Names
from paft_ray.prompts.template import Literal, Part, PromptTemplate, Slot, TemplateError, parse

_EXAMPLES = "examples"


def is_nemo_skills(value: Any) -> bool:
    """Whether a YAML file holds a prompt of NeMo Skills."""
    return isinstance(value, dict) and "user" in value and "doc_to_text" not in value


def nemo_skills(value: Mapping[str, Any], names: Names, path: Path) -> list[Found]:
    """The one template of the file."""
    user, system = value["user"], value.get("system") or None

    def convert() -> PromptTemplate:
        if not isinstance(user, str) or not isinstance(system, str | None):
            raise Unusable("no_prompt")
        return PromptTemplate(text=_renamed(user, names), system=_system(system) if system else None)

    return [found(path.stem, user, convert)]


def _parts(text: str) -> tuple[Part, ...]:
    try:
        return parse(text)
    except TemplateError as error:
        raise Unusable("unparsable", str(error)) from None


def _system(text: str) -> str:
    """A system part, which holds no field. Raises `Unusable`."""
    parts = _parts(text)
    if fields := [part.field for part in parts if isinstance(part, Slot)]:
        raise Unusable("field_in_system", fields[0])
    return "".join(part.text for part in parts if isinstance(part, Literal))


def _renamed(text: str, names: Names) -> str:
    """The text with our names. Raises `Unusable`."""
    return "".join(
        part.text.replace("{", "{{").replace("}", "}}")
        if isinstance(part, Literal)
        else ""
        if part.field == _EXAMPLES and not names.is_field(_EXAMPLES)
        else f"{{{names.field(part.field)}}}"
        for part in _parts(text)
    )
