"""Axis `system`: what stands in the system part. A model that is asked without its chat template reads it above the
prompt."""

from __future__ import annotations

from collections.abc import Sequence

from paft_ray.prompts.template import PromptTemplate
from paft_ray.prompts.variations.variant import Variant
from paft_ray.tasks.task import Task

VERSION = 1
_LEVELS = (
    ("empty", ""),
    ("assistant", "You are a helpful assistant."),
    ("annotator", "You are a careful annotator. You read what is given and keep to the instructions."),
    ("brief", "Answer as briefly as you can and give no explanation."),
    ("friendly", "You are a friendly companion who likes to chat with people about everything."),
)
"""(Name, text); without a system part, a chat template may write one of its own."""


def variants(task: Task, templates: Sequence[PromptTemplate], seed: int) -> list[Variant]:
    """Each template with each system part in place of its own."""
    return [
        Variant(text=template.text, system=text, axis="system", level=name, base=template.id, version=VERSION)
        for template in templates
        for name, text in _LEVELS
    ]
