"""`--dry-run`: what a run would do, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import yaml

from paft_ray import capacity
from paft_ray.cli.preflight import check_inputs, most_templates, num_split_off
from paft_ray.cli.preflight_model import check_model
from paft_ray.config import Config, EngineConfig, GeneratorConfig, PromptsConfig, TrainConfig
from paft_ray.cpu_priority import usable_cpus
from paft_ray.inference.grid import requests_per_cell
from paft_ray.metrics.cell_sampling import num_cells
from paft_ray.models.files import Shapes, shapes
from paft_ray.models.resolve import is_hub_id, resolve_model
from paft_ray.prompts.encode import Encoded
from paft_ray.prompts.template import PromptTemplate
from paft_ray.sanitize import visible
from paft_ray.stages import prepare
from paft_ray.stages.prepare import sources
from paft_ray.stages.registry import started_by
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.stages.user_templates import Templates
from paft_ray.sweep.trials import listed_trials, num_trials
from paft_ray.tasks.readers import read_examples
from paft_ray.tasks.task import Example

_SAMPLE_ROWS = 64


def plan(config: Config, stage: str = "run") -> str:
    """Resolved configuration, resources, estimates and, where rows, templates and model are on this machine, three
    examples with their loss mask.

    Raises `UserError` for bad input; reaches neither a hub nor a cluster.
    """
    resolved = ResolvedRun.of(config)
    given = check_inputs(resolved)
    task, (templates, held_out) = resolved.task, given
    found = sources(task, config.data)
    rows = list(islice(read_examples(task, found["train"]), _SAMPLE_ROWS)) if found["train"].path is not None else []
    path, *_ = [_model(*model) for model in config.models]
    trains = "train" in started_by(stage, config)
    encoder = check_model(config, task, path, given, trains=trains) if path is not None else None
    requests = requests_per_cell(encoder) if encoder is not None else None
    drawn = list(zip(rows, templates * _SAMPLE_ROWS, strict=False))
    encoded: list[Encoded] = []
    shown = [
        "# examples: shown where the training rows are a file, templates are given and the model is on this machine"
    ]
    if encoder is not None and drawn:
        encoded = [encoder.encode(template, example) for example, template in drawn]
        shown = _examples(drawn, encoded, encoder.tokenizer)
    counts = {
        name: sum(1 for _ in read_examples(task, source)) for name, source in found.items() if source.path is not None
    }
    prepare.check_counts(counts, set(found), config.data)
    num_train = config.data.num_train or counts.get("train")
    estimates = {
        "generators": [
            receives(generator, config.prompts.num_shared_examples, len(templates))
            for generator in config.prompts.generators
        ],
        **({"judge": judge_receives(config.prompts)} if config.prompts.writing_models else {}),
        **_resources(config),
        **_precision(config),
        **_training(config, num_train, encoded),
        **(
            _sweep(config, given)
            if stage == "sweep"
            else _evaluation(config, counts.get("test"), len(held_out) or num_split_off(config, given), requests)
        ),
        **_needs(config, path, max(map(_length, encoded), default=config.model.max_prompt_tokens), num_train),
    }
    parts = [
        yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        yaml.safe_dump({"plan": estimates}, sort_keys=False, width=160),
    ]
    return "\n".join([*parts, *shown])


def _model(model_id: str, revision: str | None) -> str | None:
    """Folder of a model with complete weight files, None where it is on a hub. Raises `UserError` as a run would."""
    if is_hub_id(model_id):
        return None
    path = resolve_model(model_id, revision)
    shapes(path)
    return path


def _precision(config: Config) -> dict[str, str]:
    """Precision of the sections that do not name one."""
    sections: dict[str, EngineConfig | TrainConfig] = {"engine": config.engine, "train": config.train}
    return {
        f"{name}_precision": f"{section.precision}, that of this machine; a run asks the nodes that compute"
        for name, section in sections.items()
        if "precision" not in section.model_fields_set
    }


def _resources(config: Config) -> dict[str, Any]:
    train, engine = config.train, config.engine
    trained = len(train.arms) * len(train.seeds)
    return {
        "this_machine": f"{usable_cpus()} CPU cores that this process may use",
        "engine": f"{engine.replicas} x ({engine.num_cpus:g} CPU, {engine.num_gpus:g} GPU) x tensor parallel "
        f"{engine.tensor_parallel}",
        "training_workers": f"{train.num_workers} x ({train.cpus_per_worker} CPU, {train.gpus_per_worker} GPU), "
        f"ZeRO-{train.zero_stage}",
        "trainings": trained,
        "engine_starts": {
            "synthesize_at_most": _synthesis_starts(config),
            "score_at_most": int(config.score.enabled),  # none where an engine of this model runs already
            "evaluate_at_most": 1,
        },
    }


def _synthesis_starts(config: Config) -> int:
    """Engine starts of stage synthesize at most: one per round of each generator in the cluster; one more of each for
    its review, and two of a judge in the cluster that is another model, for each generator. Fewer where engines are
    shared."""
    prompts, judge = config.prompts, config.prompts.judging_model
    local = sum(model.endpoint is None for model in prompts.writing_models)
    judging = 2 * len(prompts.writing_models) if judge is not None and judge.endpoint is None else 0
    return local * (prompts.max_rounds + 1) + judging


def receives(generator: GeneratorConfig, num_rows: int, num_templates: int) -> str:
    """What one generator gets to see, and where it is."""
    if generator.type == "grammar":
        return "grammar, on the driver: the task's description, names of fields and labels, no row of the data"
    rows = f"{num_rows} training rows with their answers" if num_rows else "no row of the data"
    seen = f"the task's description, names of fields and labels, {num_templates} seed templates, {rows}"
    return f"{_place(generator)}: {seen}"


def judge_receives(prompts: PromptsConfig) -> str:
    """What a judge gets to see, and where it is."""
    seen = "candidates, seed templates, descriptions and templates of the tasks that ship, no row of the data"
    judge = prompts.judging_model
    return f"{'each model that writes, of what it wrote' if judge is None else _place(judge)}: {seen}"


def _place(model: GeneratorConfig) -> str:
    if model.endpoint is None:
        return f"{model.id}, an engine in the cluster"
    key = f"key from {model.endpoint.api_key_env}" if model.endpoint.api_key_env else "no key"
    return f"{model.id}, OUTSIDE at {model.endpoint.base_url} ({key})"


def _training(config: Config, num_train: int | None, encoded: Sequence[Encoded]) -> dict[str, Any]:
    """Steps and tokens of one training, from the mean length of a sample of rows under the seed templates."""
    train = config.train
    rows = capacity.training_rows(train, num_train)
    if rows is None:
        return {"training_rows": f"{train.num_epochs:g} epochs of a data set on a hub"}
    mean = sum(map(_length, encoded)) / len(encoded) if encoded else None
    tokens = (
        {"training_tokens_each": round(rows * mean)}
        if mean
        else {"training_tokens_each_at_most": round(rows * config.model.max_prompt_tokens)}
    )
    return {"training_rows_each": round(rows), **tokens}


def _sweep(config: Config, templates: Templates) -> dict[str, Any]:
    """Trials of a sweep, which one engine evaluates."""
    most = most_templates(config, templates)
    listed = listed_trials(config.sweep, most)
    trials = num_trials(config.sweep, len(listed))
    return {
        "trainings": trials,
        "sizes": f"{', '.join(map(str, sorted({trial.size for trial in listed})))} templates; at most {most} can be "
        "trained on",
        "engine_starts": {"synthesize_at_most": _synthesis_starts(config), "evaluate": 1},
    }


def _evaluation(config: Config, counted: int | None, held_out: int, requests: int | None) -> dict[str, Any]:
    """Prompts that the engines answer: per arm, held-out templates x test rows, or the part of these cells that
    `evaluate.budget` asks.

    `requests`: most that a cell takes, with labels that share their first tokens or are very many; None where the model
    is not on this machine.
    """
    num_test = config.data.num_test or counted
    cells = "" if config.evaluate.budget == 1 else f" x {100 * config.evaluate.budget:g} % of the cells"
    if requests is None:
        cells += " x the requests of a cell (1, or more where labels share their first tokens)"
    elif requests > 1:
        cells += f" x {requests} requests of a cell at most"
    if num_test is None:
        return {"evaluation_prompts_per_arm": f"{held_out} templates x the test rows of a data set on a hub{cells}"}
    arms = 1 + len(config.train.arms) * len(config.train.seeds)
    total = arms * num_cells(held_out, num_test, config.evaluate.budget) * (requests or 1)
    return {"evaluation_prompts": f"{arms} models x {held_out} held-out templates x {num_test} rows{cells} = {total}"}


def _needs(config: Config, path: str | None, tokens_per_row: float, num_train: int | None) -> dict[str, Any]:
    """Memory and storage, where the model is on this machine."""
    if path is None:
        return {"memory": "unknown: the model is not on this machine; docs/capacity.md has Llama-3-8B and 70B"}
    weights = shapes(path)
    return {
        "memory": _memory(config, weights, tokens_per_row),
        "storage_each_training": _storage(config, weights, num_train),
    }


def _memory(config: Config, weights: Shapes, tokens_per_row: float) -> dict[str, str]:
    """GiB of one engine and of one training worker."""
    train, engine = config.train, config.engine
    worker = capacity.worker_memory(train, weights, tokens_per_row=tokens_per_row)
    place = "on the device" if train.gpus_per_worker else f"and {capacity.PROCESS_GIB:g} GiB of its process"
    return {
        "weights": f"{capacity.num_weights(weights) / 1e6:.0f} M, trained "
        f"{capacity.trained_weights(train, weights) / 1e6:.1f} M",
        "engine": f"{capacity.engine_gib(engine, weights) + (0 if engine.num_gpus else engine.kv_cache_gib):.1f} GiB"
        + (" and the key-value cache" if engine.num_gpus else ", key-value cache included"),
        "training_worker": f"{worker.device:.1f} GiB {place}: weights {worker.weights:.1f}, "
        f"optimizer {worker.optimizer:.1f}, activations {worker.activations:.1f} at {tokens_per_row:.0f} tokens a row",
        "training_worker_cpu": f"{worker.loading:.1f} GiB while each worker loads the model; checkpoint of rank 0 "
        f"{worker.checkpoint:.2f}, offloaded {worker.offloaded:.1f}",
    }


def _storage(config: Config, weights: Shapes, num_train: int | None) -> str:
    """What one training leaves in the run."""
    rows = capacity.training_rows(config.train, num_train)
    each = capacity.training_storage_bytes(
        config.train, weights, num_steps=None if rows is None else rows / config.train.global_batch
    )
    return (
        f"{each / capacity.GIB:.2f} GiB of checkpoints and {'full weights' if config.train.lora is None else 'adapter'}"
    )


def _length(row: Encoded) -> int:
    return len(row.prompt_ids) + len(row.answer_ids)


def _examples(drawn: Sequence[tuple[Example, PromptTemplate]], encoded: Sequence[Encoded], tokenizer: Any) -> list[str]:
    """Prompt | answer; the part behind the bar carries the loss."""
    shown = []
    for (example, _), row in zip(drawn[:3], encoded, strict=False):
        head = (
            f"# example {example.id}: {len(row.prompt_ids)} prompt tokens without loss | {len(row.answer_ids)} with "
            "loss"
        )
        shown.append(visible(f"{head}\n{tokenizer.decode(row.prompt_ids)} | {tokenizer.decode(row.answer_ids)}\n"))
    return shown
