"""Whether engines may wait while a training runs, for the evaluation after it."""

from __future__ import annotations

from collections.abc import Mapping

from paft_ray import capacity
from paft_ray.config import Config
from paft_ray.models.files import shapes

_SPARE = 1.5
"""What is there over what is needed: both are estimates."""


def have_room(config: Config, path: str, machine: Mapping[str, float]) -> bool:
    """Whether a training gets all that it asks for beside the engines of the configuration: they compute on the CPU,
    and the machine's CPUs and memory hold both.

    `path`: folder of the model; `machine`: all resources of a Ray that serves this command alone, as Ray names them,
    `memory` in bytes.
    """
    engine, train = config.engine, config.train
    if engine.num_gpus:
        return False
    ranks = engine.replicas * engine.tensor_parallel
    cpus = ranks * engine.num_cpus + train.num_workers * train.cpus_per_worker + 1  # 1: tasks of Ray Data
    return cpus <= machine.get("CPU", 0) and _SPARE * _gib(config, path) * capacity.GIB <= machine.get("memory", 0)


def _gib(config: Config, path: str) -> float:
    """Memory of all engines and training workers together."""
    engine, train, weights = config.engine, config.train, shapes(path)
    worker = capacity.worker_memory(train, weights, tokens_per_row=config.model.max_prompt_tokens)
    computes = 0 if train.gpus_per_worker else worker.device
    each = capacity.PROCESS_GIB + max(worker.loading, computes + worker.offloaded) + worker.checkpoint
    rank = 2 * capacity.PROCESS_GIB + capacity.engine_gib(engine, weights) + engine.kv_cache_gib  # actor and engine
    return engine.replicas * engine.tensor_parallel * rank + train.num_workers * each
