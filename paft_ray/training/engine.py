"""The DeepSpeed engine of a training at any of its steps."""

from __future__ import annotations

from typing import Any

import deepspeed

from paft_ray.compat.deepspeed import skip_shared_memory_op
from paft_ray.training import checkpoint, deepspeed_state
from paft_ray.training.collate import collate
from paft_ray.training.deepspeed_config import accumulation, deepspeed_config
from paft_ray.training.example_builder import empty_row
from paft_ray.training.job import TrainingJob, Worker
from paft_ray.training.model import build_model
from paft_ray.training.validation import forward

skip_shared_memory_op()


def start_engine(job: TrainingJob, worker: Worker, start_step: int) -> Any:
    """A DeepSpeed engine with the state after `start_step` steps (fresh for 0). Collective."""
    device = deepspeed.accelerator.get_accelerator().device_name()
    settings = deepspeed_config(job.config, worker.world_size)
    shards = settings if job.config.zero_stage == 3 else None
    deepspeed.init_distributed()  # takes the group that is there; weights are read in parts by its size
    model = build_model(job.model_path, job.config, seed=job.seed, device=device, shards=shards, reads=worker.rank == 0)
    saved = checkpoint.read(job.store, start_step) if start_step else None
    if saved:
        deepspeed_state.load_weights(model, saved)
    parameters = list(deepspeed_state.trainable(model).values())
    engine, *_ = deepspeed.initialize(model=model, model_parameters=parameters, config=settings)
    if saved:
        _empty_step(engine, accumulation(job.config, worker.world_size), job.config.micro_batch)
        deepspeed_state.restore_optimizer(engine, saved)
    return engine


def set_learning_rate(engine: Any, value: float) -> None:
    """Sets the learning rate of the next optimizer step."""
    for group in engine.optimizer.param_groups:
        group["lr"] = value


def _empty_step(engine: Any, passes: int, rows: int) -> None:
    """One optimizer step that changes no weight (learning rate 0, gradients 0), so that the optimizer state exists."""
    set_learning_rate(engine, 0.0)
    batch = collate([empty_row()] * rows).to(engine.device)
    for _ in range(passes):
        engine.backward(forward(engine, batch).float().sum() * 0.0)
        engine.step()
