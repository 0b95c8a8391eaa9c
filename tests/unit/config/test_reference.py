"""docs/configuration.md names the keys that exist, and no other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from paft_ray.config import Config


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]


def keys(model: type[BaseModel], section: str) -> Iterator[str]:
    """`section.key` of every setting below a section; a section that may be replaced counts itself."""
    for name, field in model.model_fields.items():
        path = f"{section}.{name}".lstrip(".")
        models = models_in(field.annotation)
        if not models or section:
            yield path
        if path in ("sweep.space.sampling", "prompts.judge.endpoint"):  # their keys stand in another section
            continue
        for inner in models:
            yield from keys(inner, f"{path}[]" if path == "prompts.generators" else path)


def documented() -> Iterator[str]:
    section = ""
    for line in Path("docs/configuration.md").read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"## `?(.+?)`?", line):
            section = "" if heading.group(1) == "top level" else heading.group(1)
        elif key := re.match(r"\| `(\w+)` \|", line):
            yield f"{section}.{key.group(1)}".lstrip(".")


def test_the_reference_names_every_key_once_and_no_other() -> None:
    named = list(documented())
    assert len(named) == len(set(named))
    assert sorted(named) == sorted(set(keys(Config, "")))


def test_the_configuration_stays_small() -> None:
    assert len(list(documented())) <= 140
