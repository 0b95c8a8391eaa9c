"""Everything that a user can get wrong, refused before Ray starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow.fs import LocalFileSystem

from paft_ray.artifacts import Run
from paft_ray.config import Config
from paft_ray.errors import UserError
from paft_ray.models import load_tokenizer, resolve_model
from paft_ray.prompts.encode import Encoder
from paft_ray.stages import prepare, synthesize
from paft_ray.tasks.task import Task, load_task

_MODEL_FREE = ("prepare", "report")
_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray in the process that a submitted job starts


def check(config: Config, stage: str, *, local: bool) -> Run:
    """The run's directory, after task, files, templates, storage, models and (on one machine) resources are found good. Raises `UserError`."""
    task = check_inputs(config)
    if local:
        check_resources(config, local_resources())
    elif _JOB_VARIABLE in os.environ and "://" not in config.storage and not Path(config.storage).expanduser().is_absolute():
        raise UserError(
            f"storage={config.storage}: a job's own folder goes away with it; give a path or URI that all nodes reach, e.g. --set storage=/shared/runs"
        )
    run = Run.open(config.storage, config.name)
    if stage not in _MODEL_FREE:
        for generator in config.prompts.generators:
            resolve_model(generator.id, generator.revision)
        path = resolve_model(config.model.id, config.model.revision)
        Encoder(task, load_tokenizer(path), chat=config.model.chat, cut_field=config.model.cut_field)
    return run


def check_inputs(config: Config) -> Task:
    """The task, after sources, templates and settings that name parts of it are found good; reaches neither a hub nor a cluster. Raises `UserError`."""
    _no_secrets(config)
    task = load_task(config.task)
    prepare.check(config)
    synthesize.user_templates(config, task)
    if config.model.cut_field is not None and config.model.cut_field not in task.fields:
        raise UserError(f"model.cut_field={config.model.cut_field}: not a field of task {task.name}; allowed: {', '.join(task.fields)}")
    return task


def check_resources(config: Config, total: Mapping[str, float]) -> None:
    """Raises `UserError` where engine or workers ask for more than `total` (CPU, GPU) holds; one CPU is left for Ray Data."""
    train, engine = config.train, config.engine
    wanted = {
        "train.num_workers x cpus_per_worker": ("CPU", train.num_workers * train.cpus_per_worker),
        "train.num_workers x gpus_per_worker": ("GPU", train.num_workers * train.gpus_per_worker),
        "engine.replicas x tensor_parallel x num_cpus": ("CPU", engine.replicas * engine.tensor_parallel * engine.num_cpus),
        "engine.replicas x tensor_parallel x num_gpus": ("GPU", engine.replicas * engine.tensor_parallel * engine.num_gpus),
    }
    for name, (kind, count) in wanted.items():
        allowed = total.get(kind, 0) - (kind == "CPU")
        if count > allowed:
            spare = " (one is left for Ray Data)" if kind == "CPU" else ""
            raise UserError(f"{name} asks for {count:g} {kind}s, allowed are {max(0, allowed):g}{spare}; lower it, or give --address of a larger cluster")


def check_nodes(run: Run) -> None:
    """Raises `UserError` where a run on object storage meets several nodes: merged weights lie on the driver's node, and engines would not find them."""
    import ray

    count = sum(node["Alive"] for node in ray.nodes())
    if count > 1 and not isinstance(run.filesystem, LocalFileSystem):
        raise UserError(f"storage {run.root}: object storage serves clusters of one node so far, this one has {count}; give a folder that all nodes share")


def local_resources() -> dict[str, float]:
    """Logical CPUs and GPUs that a local Ray gets: at least four CPUs, since Ray Data waits for ever where workers hold all of them."""
    return {"CPU": max(4, os.cpu_count() or 1), "GPU": len(list(Path("/dev").glob("nvidia[0-9]*")))}


def _no_secrets(config: Config) -> None:
    """Configurations are stored and printed, so they must not carry secrets."""
    if "hf_token" in config.engine.engine_kwargs:
        raise UserError("engine.engine_kwargs.hf_token: secrets come from the environment only; set HF_TOKEN instead")
    for name, uri in (("storage", config.storage), *(("data." + key, getattr(config.data, key)) for key in ("train", "validation", "test"))):
        if uri and "@" in urlsplit(uri).netloc:
            raise UserError(f"{name}: the URI holds credentials, which would be stored with the run; give them in the environment (e.g. AWS_ACCESS_KEY_ID)")
