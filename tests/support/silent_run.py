"""A made-up run of a task with two labels in which arms know more than they say. The numbers are drawn here and stand
for no measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example
from tests.support import made_stage as stages
from tests.support.made_outcomes import outcome_row, outcome_table

LABELS = ("positive", "negative")
GROUPS = ("chatty", "plain")
ARMS: Mapping[str, tuple[float, float]] = {"base": (0.6, 0.9), "sft": (0.7, 0.5), "paft": (0.9, 0.0)}
"""Arm -> (fraction of the rows whose label it knows, fraction of the templates under which it says nothing)."""


def silent_run(
    folder: Path,
    *,
    arms: Mapping[str, tuple[float, float]] = ARMS,
    num_templates: int = 24,
    num_examples: int = 24,
    seeds: Sequence[int] = (0,),
    groups: Sequence[str | None] = GROUPS,
) -> Store:
    """The run, evaluated. Template n is in the group n mod number of groups (None: in none)."""
    run = Store(str(folder))
    held_out = [
        Entry(
            template=PromptTemplate(text=f"Template {n}: {{text}}"),
            split="held_out",
            provenance={"source": "held_out"} | ({"group": group} if (group := groups[n % len(groups)]) else {}),
        )
        for n in range(num_templates)
    ]
    seed = Entry(template=PromptTemplate(text="Seed: {text}"), provenance={"source": "seed"})
    stages.synthesized(run, PromptSet.of([seed, *held_out]))
    examples = [Example(id=f"e{n:03}", fields={"text": f"film {n}"}, answer=LABELS[n % 2]) for n in range(num_examples)]
    stages.prepared(run, {"test": examples})
    stages.evaluated(run, answers([entry.template for entry in held_out], examples, arms, seeds), time_s=9.0)
    return run


def answers(
    templates: Sequence[PromptTemplate],
    examples: Sequence[Example],
    arms: Mapping[str, tuple[float, float]],
    seeds: Sequence[int] = (0,),
) -> pa.Table:
    """Rows of outcomes.parquet. An arm that says nothing would still choose the label that it knows."""
    rng, rows = np.random.default_rng(0), []
    for arm, (known, silent) in arms.items():
        for seed in (-1,) if arm == "base" else seeds:
            for number, template in enumerate(templates):
                says = number >= silent * len(templates)
                for example in examples:
                    rows.append(_row(arm, seed, template, example, bool(rng.random() < known), says))
    return outcome_table(rows, LABELS)


def _row(arm: str, seed: int, template: PromptTemplate, example: Example, right: bool, says: bool) -> dict[str, Any]:
    chosen = example.answer if right else LABELS[1 - LABELS.index(example.answer)]
    logprob = -0.2 if right else -2.0
    row = outcome_row(arm, template.id, example.id, example.answer, chosen, seed=seed, logprob=logprob)
    if says:
        return row
    return {**row, "behavior": 0.0, "strict": 0.0, "named": None, "said": "", "num_tokens": 1, "label_mass": 0.01}
