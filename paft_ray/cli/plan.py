"""`--dry-run`: what a run would do, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from paft_ray.cli.check import check_inputs
from paft_ray.config import Config, GeneratorConfig, TrainConfig
from paft_ray.models import Shapes, load_tokenizer, resolve_model, shapes
from paft_ray.prompts.encode import Encoded, Encoder
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages import prepare
from paft_ray.stages.prepare import sources
from paft_ray.stages.synthesize import user_templates
from paft_ray.tasks.readers import read_examples
from paft_ray.tasks.task import Example

_SAMPLE_ROWS = 64
_GIB = 2**30
_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}


def plan(config: Config) -> str:
    """Resolved configuration, resources, estimates and, where rows, templates and model are on this machine, three examples with their loss mask.

    Raises `UserError` for bad input; reaches neither a hub nor a cluster.
    """
    task = check_inputs(config)
    templates, held_out = user_templates(config, task)
    found = sources(task, config.data)
    rows = list(islice(read_examples(task, found["train"]), _SAMPLE_ROWS)) if found["train"].path is not None else []
    path = resolve_model(config.model.id, config.model.revision) if _on_this_machine(config.model.id) else None
    drawn = list(zip(rows, templates * _SAMPLE_ROWS, strict=False))
    encoded: list[Encoded] = []
    shown = ["# examples: shown where the training rows are a file, templates are given and the model is on this machine"]
    if path is not None and drawn:
        model = config.model
        encoder = Encoder(task, load_tokenizer(path), chat=model.chat, max_prompt_tokens=model.max_prompt_tokens, cut_field=model.cut_field)
        encoded = [encoder.encode(template, example) for example, template in drawn]
        shown = _examples(drawn, encoded, encoder.tokenizer)
    counts = {name: sum(1 for _ in read_examples(task, source)) for name, source in found.items() if source.path is not None}
    prepare.check_counts(counts, set(found), config.data)
    num_train = config.data.num_train or counts.get("train")
    estimates = {
        "generators": [receives(generator, config.prompts.share_examples, len(templates)) for generator in config.prompts.generators],
        **_resources(config),
        **_training(config, num_train, encoded),
        **_evaluation(config, counts.get("test"), len(held_out)),
        "memory": _memory(config, shapes(path)) if path is not None else "unknown: the model is not on this machine",
    }
    parts = [
        yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        yaml.safe_dump({"plan": estimates}, sort_keys=False, width=160),
    ]
    return "\n".join([*parts, *shown])


def _on_this_machine(model_id: str) -> bool:
    return model_id == "demo" or model_id.count("/") != 1 or model_id.startswith((".", "/", "~")) or Path(model_id).is_dir()


def _resources(config: Config) -> dict[str, Any]:
    train, engine = config.train, config.engine
    trained = len(train.arms) * len(train.seeds)
    return {
        "engine": f"{engine.replicas} x ({engine.num_cpus:g} CPU, {engine.num_gpus:g} GPU) x tensor parallel {engine.tensor_parallel}",
        "training_workers": f"{train.num_workers} x ({train.cpus_per_worker} CPU, {train.gpus_per_worker} GPU), ZeRO-{train.zero_stage}",
        "trainings": trained,
        "engine_starts": {
            "synthesize_at_most": sum(generator.endpoint is None for generator in config.prompts.generators) * config.prompts.max_attempts,
            "score": int(config.score.enabled),
            "evaluate": 1 + trained,
        },
    }


def receives(generator: GeneratorConfig, num_rows: int, num_templates: int) -> str:
    """What one generator gets to see, and where it is."""
    rows = f"{num_rows} training rows with their answers" if num_rows else "no row of the data"
    seen = f"the task's description, names of fields and labels, {num_templates} seed templates, {rows}"
    endpoint = generator.endpoint
    if endpoint is None:
        return f"{generator.id}, an engine in the cluster: {seen}"
    key = f"key from {endpoint.api_key_env}" if endpoint.api_key_env else "no key"
    return f"{generator.id}, OUTSIDE at {endpoint.base_url} ({key}): {seen}"


def _training(config: Config, num_train: int | None, encoded: Sequence[Encoded]) -> dict[str, Any]:
    """Steps and tokens of one training, from the mean length of a sample of rows under the seed templates."""
    train = config.train
    rows: float | None = None
    if train.num_steps is not None:
        rows = train.num_steps * train.global_batch
    elif num_train is not None and train.num_epochs is not None:
        rows = num_train * train.num_epochs
    if rows is None:
        return {"training_rows": f"{train.num_epochs:g} epochs of a data set on a hub"}
    mean = sum(len(row.prompt_ids) + len(row.answer_ids) for row in encoded) / len(encoded) if encoded else None
    tokens = {"training_tokens_each": round(rows * mean)} if mean else {"training_tokens_each_at_most": round(rows * config.model.max_prompt_tokens)}
    return {"training_rows_each": round(rows), **tokens}


def _evaluation(config: Config, counted: int | None, given: int) -> dict[str, Any]:
    """Prompts that the engines answer: per arm, held-out templates x test rows."""
    held_out = given or max(config.prompts.min_held_out, round(config.prompts.num_candidates * config.prompts.held_out_fraction))
    num_test = config.data.num_test or counted
    if num_test is None:
        return {"evaluation_prompts_per_arm": f"{held_out} templates x the test rows of a data set on a hub"}
    arms = 1 + len(config.train.arms) * len(config.train.seeds)
    return {"evaluation_prompts": f"{arms} models x {held_out} held-out templates x {num_test} rows = {arms * held_out * num_test}"}


def _memory(config: Config, weights: Shapes) -> dict[str, str]:
    """GiB of one engine and of one training worker; activations come on top of the latter."""
    total = sum(_size(shape) for shape in weights.values())
    trained = trained_weights(config.train, weights)
    train, engine = config.train, config.engine
    frozen = 4 if train.lora is None or not train.gpus_per_worker else _BYTES[train.precision]
    sharded = train.num_workers if train.zero_stage else 1
    worker = (0 if train.lora is None else total * frozen) / (sharded if train.zero_stage == 3 else 1) + trained * (8 + 8 / sharded)
    return {
        "weights": f"{total / 1e6:.0f} M, trained {trained / 1e6:.1f} M",
        "engine": f"{total * _BYTES[engine.precision] / _GIB / engine.tensor_parallel + (0 if engine.num_gpus else engine.kv_cache_gib):.1f} GiB"
        + (" and the key-value cache" if engine.num_gpus else ", key-value cache included"),
        "training_worker": f"{worker / _GIB:.1f} GiB and activations",
    }


def trained_weights(train: TrainConfig, weights: Shapes) -> int:
    """Number of weights that train: all, or rank x (inputs + outputs) of every adapted linear layer."""
    if train.lora is None:
        return sum(_size(shape) for shape in weights.values())
    layers = [(name.split(".")[-2], shape) for name, shape in weights.items() if name.endswith(".weight") and ".layers." in name and len(shape) == 2]
    targets = train.lora.target_modules
    return sum(train.lora.rank * sum(shape) for module, shape in layers if targets == "all-linear" or module in targets)


def _size(shape: Sequence[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _examples(drawn: Sequence[tuple[Example, PromptTemplate]], encoded: Sequence[Encoded], tokenizer: Any) -> list[str]:
    """Prompt | answer; the part behind the bar carries the loss."""
    shown = []
    for (example, _), row in zip(drawn[:3], encoded, strict=False):
        head = f"# example {example.id}: {len(row.prompt_ids)} prompt tokens without loss | {len(row.answer_ids)} with loss"
        shown.append(f"{head}\n{tokenizer.decode(row.prompt_ids)} | {tokenizer.decode(row.answer_ids)}\n")
    return shown
