"""templates.yaml of PromptSource: prompt and target in Jinja, apart by `|||`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paft_ray.prompts.published.found import Found, Unusable, found
from paft_ray.prompts.published.names import REFERENCE, Names
from paft_ray.prompts.published.plain_jinja import plain_text
from paft_ray.prompts.template import PromptTemplate

_APART = "|||"
_TARGET = re.compile(
    rf"\{{\{{-?\s*(?:answer_choices\s*\[\s*(?P<place>{REFERENCE})\s*(?:\|\s*int\s*)?\]|(?P<name>{REFERENCE}))\s*-?\}}\}}\W*"
)
"""The answer choice that the row's label points to, or the row's answer."""


def is_promptsource(value: Any) -> bool:
    """Whether a YAML file holds templates of PromptSource."""
    templates = value.get("templates") if isinstance(value, dict) else None
    return isinstance(templates, dict) and all(
        isinstance(each, dict) and "jinja" in each for each in templates.values()
    )


def promptsource(value: Mapping[str, Any], names: Names, path: Path) -> list[Found]:
    """Every template of the file."""
    return [_found(str(key), template, names) for key, template in value["templates"].items()]


def _found(key: str, template: Mapping[str, Any], names: Names) -> Found:
    name = template.get("name")
    return found(name if isinstance(name, str) else key, template["jinja"], lambda: _template(template, names))


def _template(template: Mapping[str, Any], names: Names) -> PromptTemplate:
    jinja = template["jinja"]
    if not isinstance(jinja, str) or not jinja.strip():
        raise Unusable("no_prompt")
    prompt, *targets = jinja.split(_APART)
    choices = _choices(template)
    text = plain_text(prompt.strip(), names, choices)
    if len(targets) != 1:
        raise Unusable("other_answer", f"{len(targets)} targets")
    _check_answer(targets[0].strip(), choices, names)
    return PromptTemplate(text=text)


def _choices(template: Mapping[str, Any]) -> Sequence[str]:
    """Constant answer choices; none where there are none, or where they come from the row."""
    given = template.get("answer_choices")
    found = given.split(_APART) if isinstance(given, str) else given if isinstance(given, list) else []
    choices = [str(choice).strip() for choice in found]
    return () if any("{{" in choice or "{%" in choice for choice in choices) else choices


def _check_answer(target: str, choices: Sequence[str], names: Names) -> None:
    """Raises `Unusable` where the target is not the answer of the row, or its labels are others."""
    found = _TARGET.fullmatch(target)
    if found is None or names.is_field(found["place"] or found["name"]):
        raise Unusable("other_answer", target[:60])
    if found["place"] is None and not names.is_answer(found["name"]):
        raise Unusable("other_answer", target[:60])
    if found["place"] is not None or choices:
        names.check_choices(choices)
