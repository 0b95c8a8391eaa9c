"""A column of a suite: a template, and what is done to it and to each example before the model is asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, Self

from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.example import Example

TEMPLATES = "templates"
"""The axis of templates that nothing is done to."""


@dataclass(frozen=True, kw_only=True)
class Posed:
    """What a model is asked of one cell."""

    template: PromptTemplate
    example: Example
    """With the answer as it is shown: where options change places, another label is right."""
    stands_for: Mapping[str, str] = field(default_factory=dict)
    """Label as it is shown -> label of the task, where they differ."""

    def label(self, shown: str) -> str:
        """The task's label that a shown one stands for."""
        return self.stands_for.get(shown, shown)

    @cached_property
    def shown(self) -> Mapping[str, str]:
        """The other way around."""
        return {label: shown for shown, label in self.stands_for.items()}


class Change(Protocol):
    """What a level of an axis does. Picklable; the same for the same arguments, on every machine."""

    def __call__(self, template: PromptTemplate, example: Example, seed: int) -> Posed:
        """The cell as it is asked."""
        ...


@dataclass(frozen=True, kw_only=True)
class Variant(PromptTemplate):
    """A template under one level of one axis. `text` and `system` are what is asked where nothing changes by
    example."""

    axis: str
    level: str
    """As reports show it."""
    base: str
    """What is varied: the id of a template, or a frame of the grammar."""
    version: int
    """Of the axis: raised where it asks something else."""
    change: Change | None = None
    seed: int = 0

    @classmethod
    def of(
        cls,
        template: PromptTemplate,
        *,
        axis: str,
        level: str,
        version: int,
        text: str | None = None,
        change: Change | None = None,
        seed: int = 0,
    ) -> Self:
        """A template with its own system part, varied: by another `text`, or by a `change` of each cell."""
        return cls(
            text=template.text if text is None else text,
            system=template.system,
            axis=axis,
            level=level,
            base=template.id,
            version=version,
            change=change,
            seed=seed,
        )

    @cached_property
    def id(self) -> str:
        """Identity of what is asked: 16 hex digits."""
        key = [self.axis, self.version, self.level, self.base, self.system, self.text, self.seed]
        return hashlib.sha256(json.dumps(key, ensure_ascii=True).encode()).hexdigest()[:16]


def posed(template: PromptTemplate, example: Example) -> Posed:
    """What is asked of an example under a template, or under a variant of one."""
    if isinstance(template, Variant) and template.change is not None:
        return template.change(template, example, template.seed)
    return Posed(template=template, example=example)
