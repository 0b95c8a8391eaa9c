"""Groups of templates that a draw chooses from before it chooses a template: near-copies, or what one source wrote."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict

from paft_ray.config import Config, Over, SamplingConfig
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.sampling import Groups


def groups(prompts: PromptSet, over: Over | None) -> Groups:
    """Template indices by group, in the order of each group's first template; None: every template is its own."""
    found: dict[object, list[int]] = defaultdict(list)
    for index, entry in enumerate(prompts.entries):
        found[_group(entry, over) if over in ("cluster", "source") else index].append(index)
    return tuple(map(tuple, found.values()))


def groups_key(prompts: PromptSet, over: Over | None) -> dict[str, str]:
    """The part of a key that says which groups were drawn from, 16 hex digits over their content ids; empty where
    templates themselves are drawn."""
    if over in (None, "template"):
        return {}
    ids = [[prompts.entries[i].template.id for i in group] for group in groups(prompts, over)]
    return {"draw_groups": hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]}


def resolve_sampling(config: Config, prompts: PromptSet) -> Config:
    """The configuration with every `sampling.over` that it leaves open settled by the training templates."""
    generated = any(entry.is_generated for entry in prompts.split("train").entries)
    default: Over = "cluster" if generated else "template"

    def settled(sampling: SamplingConfig) -> SamplingConfig:
        return sampling.model_copy(update={"over": sampling.over or default})

    listed = config.sweep.space.sampling
    space = config.sweep.space.model_copy(update={"sampling": listed and tuple(map(settled, listed))})
    train = config.train.model_copy(update={"sampling": settled(config.train.sampling)})
    sweep = config.sweep.model_copy(update={"space": space})
    return config.model_copy(update={"train": train, "sweep": sweep})


def _group(entry: Entry, over: Over | None) -> object:
    return entry.cluster if over == "cluster" else entry.source
