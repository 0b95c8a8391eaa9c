"""Everything that a user can get wrong, refused before Ray starts."""

from __future__ import annotations

import os

from paft_ray.artifacts import Run
from paft_ray.config import Config
from paft_ray.errors import UserError
from paft_ray.models import load_tokenizer, resolve_model
from paft_ray.prompts.encode import Encoder
from paft_ray.stages import prepare, synthesize
from paft_ray.tasks.task import load_task


def check(config: Config, *, local: bool) -> Run:
    """The run's directory, after task, data files, templates, model and (locally) resources are found good. Raises `UserError`."""
    task = load_task(config.task)
    prepare.check(config)
    synthesize.user_templates(config, task)
    if config.model.cut_field is not None and config.model.cut_field not in task.fields:
        raise UserError(f"model.cut_field={config.model.cut_field}: not a field of task {task.name}; allowed: {', '.join(task.fields)}")
    if local:
        _resources(config)
        path = resolve_model(config.model.id, config.model.revision)
        Encoder(task, load_tokenizer(path), chat=config.model.chat, cut_field=config.model.cut_field)
    return Run.open(config.storage, config.name)


def _resources(config: Config) -> None:
    """What a single machine can never hold; a cluster is asked when training starts."""
    cpus = max(4, os.cpu_count() or 1)
    wanted = config.train.num_workers * config.train.cpus_per_worker
    if wanted > cpus - 1:
        raise UserError(f"train: {wanted} CPUs asked for, this machine gives Ray {cpus} and Ray Data needs 1; lower train.num_workers or give --address")
    if (config.train.gpus_per_worker or config.engine.num_gpus) and not _has_gpu():
        raise UserError("train.gpus_per_worker / engine.num_gpus ask for a GPU, this machine has none; set them to 0 or give --address of a cluster")


def _has_gpu() -> bool:
    return os.path.exists("/dev/nvidia0")
