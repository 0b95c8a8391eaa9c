"""`--dry-run`: what a run would do, without Ray."""

from __future__ import annotations

from itertools import islice
from typing import Any

import yaml

from paft_ray.config import Config
from paft_ray.models import load_tokenizer, resolve_model
from paft_ray.prompts.encode import Encoder
from paft_ray.stages.prepare import sources
from paft_ray.stages.synthesize import user_templates
from paft_ray.tasks.readers import read_examples
from paft_ray.tasks.task import load_task


def plan(config: Config) -> str:
    """Resolved configuration, engine starts, resources and, where rows and tokenizer are at hand, three examples with their loss mask."""
    parts = [yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)]
    parts.append(yaml.safe_dump({"plan": _resources(config)}, sort_keys=False))
    parts += _examples(config)
    return "\n".join(parts)


def _resources(config: Config) -> dict[str, Any]:
    train, engine = config.train, config.engine
    trained = len(train.arms) * len(train.seeds)
    return {
        "engine_starts": {
            "synthesis_at_most": len(config.prompts.generators) * config.prompts.max_attempts,
            "score": int(config.score.enabled),
            "evaluate": 1 + trained,
        },
        "engine": f"{engine.replicas} x ({engine.num_cpus:g} CPU, {engine.num_gpus:g} GPU) x tensor parallel {engine.tensor_parallel}",
        "trainings": trained,
        "training_workers": f"{train.num_workers} x ({train.cpus_per_worker} CPU, {train.gpus_per_worker} GPU), ZeRO-{train.zero_stage}",
        "training_tokens_at_most": train.num_steps * train.global_batch * config.model.max_prompt_tokens
        if train.num_steps
        else "epochs x rows x max_prompt_tokens",
    }


def _examples(config: Config) -> list[str]:
    """Prompt | answer, the part behind the bar carries the loss."""
    task = load_task(config.task)
    source = sources(task, config.data)["train"]
    seeds, _ = user_templates(config, task)
    if source.path is None or not seeds or not (config.model.id == "demo" or "/" not in config.model.id or config.model.id.startswith(("/", ".", "~"))):
        return ["# examples: shown where the rows are a file, templates are given and the model is local"]
    tokenizer = load_tokenizer(resolve_model(config.model.id, config.model.revision))
    encoder = Encoder(task, tokenizer, chat=config.model.chat, max_prompt_tokens=config.model.max_prompt_tokens, cut_field=config.model.cut_field)
    shown = []
    for example, template in zip(islice(read_examples(task, source), 3), [*seeds, *seeds, *seeds][:3], strict=False):
        row = encoder.encode(template, example)
        head = f"# example {example.id}: {len(row.prompt_ids)} prompt tokens, {len(row.answer_ids)} with loss"
        shown.append(f"{head}\n{tokenizer.decode(row.prompt_ids)} | {tokenizer.decode(row.answer_ids)}\n")
    return shown
