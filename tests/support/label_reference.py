"""The labels' log-probabilities of demo cells, from an engine's outcomes and from transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import torch
from transformers import AutoModelForCausalLM

from paft_ray.config import Config, ModelConfig
from paft_ray.inference.grid import Grid
from paft_ray.models.local import find_model
from paft_ray.prompts.template import PromptTemplate
from paft_ray.robustness.suites import make_suite
from paft_ray.stages.prepare import first_in_proportion
from paft_ray.tasks.readers import read_examples
from paft_ray.tasks.task import Example, load_task

LONGEST = 192
"""Tokens of a prompt."""
Labels = Mapping[tuple[str, str], Sequence[float]]
"""(Template, example) -> log-probability of each label, normalized over the labels."""


def cells(num_templates: int, num_examples: int) -> tuple[Sequence[PromptTemplate], Sequence[Example]]:
    """Held-out templates and test rows of the demo."""
    task = load_task("demo")
    templates = make_suite([], task, Config(name="check", task="demo")).plain[:num_templates]
    rows = list(read_examples(task, task.sources["test"]))
    return templates, first_in_proportion(rows, num_examples, 0, by_answer=True)


def model_config(folder: Path) -> ModelConfig:
    return ModelConfig(id=str(folder), max_prompt_tokens=LONGEST)


def label_logprobs(outcomes: pa.Table) -> Labels:
    """As an engine gave them."""
    return {(row["template_id"], row["example_id"]): row["label_logprobs"] for row in outcomes.to_pylist()}


def label_reference(
    folder: Path, templates: Sequence[PromptTemplate], examples: Sequence[Example], device: str = "cpu"
) -> Labels:
    """As transformers gives them in fp32, of a model folder with its tokenizer. The labels' first tokens differ."""
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).to(device).eval()
    grid = Grid(
        task=load_task("demo"),
        templates=tuple(templates),
        examples=tuple(examples),
        model=model_config(folder),
        model_files=find_model(str(folder), None),
    )
    found = {}
    for number in range(grid.num_cells):
        template, example = grid.cell(number)
        encoded = grid.encoder.encode(template, example)
        with torch.no_grad():
            logits = model(torch.tensor([encoded.prompt_ids], device=device)).logits[0, -1].float()
        first = [ids[0] for ids in grid.encoder.label_ids(encoded.after_newline).values()]
        assert len(set(first)) == len(first)
        found[template.id, example.id] = torch.log_softmax(logits[first], dim=0).tolist()
    return found


def apart(one: Labels, other: Labels) -> float:
    """Largest difference in nats; infinite where cells are missing."""
    if one.keys() != other.keys():
        return math.inf
    return max(abs(a - b) for cell in one for a, b in zip(one[cell], other[cell], strict=True))
