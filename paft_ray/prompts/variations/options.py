"""Axis `options`: which option stands behind which label, and how the labels are written. The answer moves along, and
what a model chose is mapped back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from paft_ray.prompts.template import Literal, PromptTemplate, Slot, escaped
from paft_ray.prompts.variations.variant import Posed, Variant
from paft_ray.tasks.example import Example
from paft_ray.tasks.task import Task

VERSION = 1
_STYLES = ("{0}) ", "({0}) ", "{0}. ", "{0}: ", "[{0}] ")
"""Ways to write a label before its option."""


def variants(task: Task, templates: Sequence[PromptTemplate], seed: int) -> list[Variant]:
    """Each template with the options moved on by one place, two places ..., so that over all of them every option
    stands behind every label; and with the labels written in other ways where the template shows `A: {field}`, as many
    as all templates have. None for a task without options."""
    labels, found = list(task.options), list[Variant]()
    for template in templates:
        for by in range(1, len(labels)):
            rotation = Rotation(fields=tuple(task.options[label] for label in labels), labels=tuple(labels), by=by)
            level = f"options moved by {by}"
            found.append(Variant.of(template, axis="options", level=level, version=VERSION, change=rotation, seed=seed))
    styled = [styles(task.options, template) for template in templates]
    for number in range(min(map(len, styled), default=0) if labels else 0):
        for template, texts in zip(templates, styled, strict=True):
            level, text = f"labels written in another way ({number + 1})", texts[number]
            found.append(Variant.of(template, axis="options", level=level, version=VERSION, text=text, seed=seed))
    return found


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """Options moved on by some places: what stood behind label i stands behind label i + `by`."""

    fields: tuple[str, ...]
    """Field of each option, in the order of `labels`."""
    labels: tuple[str, ...]
    by: int

    def __call__(self, template: PromptTemplate, example: Example, seed: int) -> Posed:
        """The cell as it is asked: the values of the options' fields change places, the answer moves along."""
        count = len(self.labels)
        moved = {self.fields[(i + self.by) % count]: example.fields[name] for i, name in enumerate(self.fields)}
        stands_for = {self.labels[(i + self.by) % count]: label for i, label in enumerate(self.labels)}
        shown = {label: place for place, label in stands_for.items()}
        answer = shown.get(example.answer, example.answer)
        posed = replace(example, fields={**example.fields, **moved}, answer=answer)
        return Posed(template=template, example=posed, stands_for=stands_for)


def styles(options: Mapping[str, str], template: PromptTemplate) -> list[str]:
    """Texts of the template with the label before every option written in each other way; none where one of the options
    has no label of its own right before it at the beginning of a line."""
    labels = {name: label for label, name in options.items()}
    written: dict[int, str] = {}
    for place, (before, slot) in enumerate(pairwise(template.parts)):
        if isinstance(slot, Slot) and slot.field in labels and isinstance(before, Literal):
            label = re.escape(labels[slot.field])
            if match := re.search(rf"(?:(?<=\n)|\A)(\(?\[?{label}[\])]?[.:)]? ?)\Z", before.text):
                written[place] = before.text[: match.start(1)]
    if len(written) < len(labels):
        return []
    found = []
    for style in _STYLES:
        pieces = []
        for place, part in enumerate(template.parts):
            if isinstance(part, Slot):
                pieces.append(f"{{{part.field}}}")
            elif place in written:
                slot = template.parts[place + 1]
                assert isinstance(slot, Slot)
                pieces.append(escaped(written[place] + style.replace("{0}", labels[slot.field])))
            else:
                pieces.append(escaped(part.text))
        found.append("".join(pieces))
    return [text for text in found if text != template.text][: len(_STYLES) - 1]
