"""What one Ray Train worker does: each training of its group that has no result yet. Imports torch, DeepSpeed, PEFT."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray.train
import ray.util
import torch
import torch.distributed as dist
from transformers.utils.logging import disable_progress_bar

from paft_ray.config import TrainConfig
from paft_ray.cpu_priority import usable_cpus
from paft_ray.models.local import find_on_this_node
from paft_ray.storage.outputs import local_digests, summed
from paft_ray.storage.store import Store
from paft_ray.storage.temp_dirs import owned_prefix
from paft_ray.training import export, loop
from paft_ray.training.data import step_rows
from paft_ray.training.data_order import rank_slice
from paft_ray.training.job import FOLDERS, TrainingJob, Worker
from paft_ray.training.memory import free_memory, peak_memory_gib
from paft_ray.training.result import RESULT, Kind, StoredResult, summary
from paft_ray.training.step_metrics import read_metrics


def run(jobs: Mapping[str, TrainingJob]) -> None:
    """Trains each job, by the name of its data set, that has no result yet. Collective."""
    context = ray.train.get_context()
    _prepare_process(next(iter(jobs.values())).config, context.get_local_world_size())
    worker = Worker(rank=context.get_world_rank(), world_size=context.get_world_size())
    for name, job in jobs.items():
        if not Store(job.out).exists(RESULT):  # else a group that was lost since has left it
            _train(name, replace(job, model=find_on_this_node(job.model)), worker)
            free_memory()
            dist.barrier()


def _prepare_process(config: TrainConfig, local_world_size: int) -> None:
    """Sets what torch and its libraries hold per process."""
    disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")  # one line per collective call otherwise
    if not config.gpus_per_worker:
        torch.set_num_threads(config.threads_per_worker or max(1, usable_cpus() // local_world_size))


def _train(name: str, job: TrainingJob, worker: Worker) -> None:
    """Rows from Ray Data, the loop, the export. Collective."""
    share = len(rank_slice(worker.rank, worker.world_size, job.config.global_batch))
    rows = step_rows(ray.train.get_dataset_shard(name), share)
    hooks = loop.Hooks(report=ray.train.report, is_preempted=lambda: ray.train.get_preemption_info() is not None)
    engine = loop.train(job, rows, worker, hooks)
    memory = torch.tensor(peak_memory_gib(engine.device), device=engine.device)
    dist.all_reduce(memory, op=dist.ReduceOp.MAX)
    nodes = [""] * worker.world_size
    dist.all_gather_object(nodes, ray.util.get_node_ip_address())
    step, weights = export.final_weights(engine, job, worker)
    if worker.rank == 0:
        with tempfile.TemporaryDirectory(prefix=owned_prefix(FOLDERS, Store(job.out).root)) as scratch:
            folder = Path(scratch) / "model"
            _export(engine, job, weights, folder)
            _publish(job, folder, exported_step=step, peak_memory_gib=float(memory), nodes=nodes)
    engine.destroy()


def _export(engine: Any, job: TrainingJob, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Writes the finished weights into a local folder."""
    if job.config.lora is None:
        export.export_weights(weights, folder, job.model_path, precision=job.config.precision)
    else:
        export.export_adapter(engine, weights, folder, base_id=job.base_id)


def _publish(job: TrainingJob, folder: Path, *, exported_step: int, peak_memory_gib: float, nodes: list[str]) -> None:
    """Uploads the finished weights, then result.json."""
    out = Store(job.out)
    kind: Kind = "weights" if job.config.lora is None else "adapter"
    files = local_digests(folder)
    out.upload_dir(folder, kind)
    result = StoredResult(
        fingerprint=job.fingerprint,
        kind=kind,
        sha256=summed(files),
        files=files,
        num_steps=job.num_steps,
        exported_step=exported_step,
        peak_memory_gib=peak_memory_gib,
        nodes=nodes,
        **summary(read_metrics(out)),
    )
    out.write_json(RESULT, result.model_dump())
