"""Where every template comes from, where it went, and what it scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.report.tables import TemplateRow


@dataclass(frozen=True, kw_only=True)
class Origin:
    """One template of the prompt set."""

    template: PromptTemplate
    split: str
    source: str
    """seed, held_out, user or generated."""
    generator: str | None
    """Model that wrote it."""
    strategy: str | None
    """How the model was asked: zero_shot or few_shot."""
    axes: str | None
    """What it was asked for along the diversity axes."""
    cluster: int
    """Cluster of near-duplicates; -1: none was computed."""
    score: float | None
    """Accuracy of the base model on validation rows; training templates only."""
    number: int | None
    """Its number in the matrix, where it was measured."""


def origins(prompts: PromptSet, scores: Mapping[str, float], rows: Sequence[TemplateRow]) -> list[Origin]:
    """Every template of the prompt set: training templates first, each split in the order of the prompt set."""
    numbers = {row.template.id: row.number for row in rows}
    entries = [entry for split in ("train", "held_out") for entry in prompts.entries if entry.split == split]
    return [_origin(entry, scores, numbers) for entry in entries]


def _origin(entry: Entry, scores: Mapping[str, float], numbers: Mapping[str, int]) -> Origin:
    generated = entry.is_generated
    axes = entry.provenance.get("axes") or {}
    return Origin(
        template=entry.template,
        split=entry.split,
        source="generated" if generated else entry.source,
        generator=entry.source if generated else None,
        strategy=entry.provenance.get("strategy"),
        axes=", ".join(f"{name}: {value}" for name, value in axes.items()) or None,
        cluster=entry.cluster,
        score=scores.get(entry.template.id),
        number=numbers.get(entry.template.id),
    )
