"""One worker's training: steps of rows in, trained engine out. A plain function; Ray is not needed to call it.

Loss of a step = sum of token cross-entropies over answer and end tokens / global count of those tokens. DeepSpeed
divides by accumulation and averages over workers, so both are multiplied back.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import platform
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import deepspeed
import numpy as np
import torch
import torch.distributed as dist

from paft_ray.config import TrainConfig
from paft_ray.storage.store import Store
from paft_ray.tracking.tracker_run import TrackerRun
from paft_ray.tracking.trackers import Trackers
from paft_ray.training import checkpoint, deepspeed_state
from paft_ray.training.audit_log import AuditLog, audit_store
from paft_ray.training.background_upload import BackgroundUpload
from paft_ray.training.checkpoint_selection import LabelRows, best_step
from paft_ray.training.collate import answer_loss, answer_tokens, collate, length, micro_batches
from paft_ray.training.data_order import step_positions
from paft_ray.training.deepspeed_config import accumulation, deepspeed_config, learning_rate
from paft_ray.training.example_builder import Row
from paft_ray.training.metrics_writer import MetricsWriter
from paft_ray.training.model import build_model
from paft_ray.training.validation import forward, label_accuracy, validation_loss

# DeepSpeed would compile a shared-memory all-reduce for CPUs at its first start (about 50 s); gloo gives the same sums.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
_ASK_EVERY_S = 5


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one training does, the same on every worker and after every restart."""

    config: TrainConfig
    model_path: str
    seed: int
    num_steps: int
    """Optimizer steps of the whole run."""
    out: str
    """Folder or URI of this training's files."""
    fingerprint: str
    """Hash of all that decides the weights; checkpoints of another fingerprint are never resumed."""
    name: str
    """Opens every console line."""
    base_id: str | None = None
    """Hub id of the base model, which the adapter names; None: a folder."""
    validation: tuple[Row, ...] = ()
    """Rows of the periodic validation."""
    labels: LabelRows | None = None
    """Rows of the validation with every checkpoint, where the best one is exported."""
    shown: TrackerRun | None = None
    """Run of the trackers, where some are asked for."""

    @property
    def store(self) -> Store:
        """Where its checkpoints are."""
        return Store(self.out).below(f"checkpoints/{self.fingerprint}")


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One process of the group."""

    rank: int
    world_size: int


def train(
    job: Job,
    steps: Iterator[list[Row]],
    worker: Worker,
    *,
    report: Callable[[dict[str, Any]], None] | None = None,
    observe: Callable[[int, list[Row]], None] | None = None,
    losing: Callable[[], bool] | None = None,
) -> Any:
    """The DeepSpeed engine after the last step.

    `steps` gives this rank's rows of one step after another, from the step at which to start; the state of that step is
    read from the newest checkpoint. `report` gets the metrics of a step with a checkpoint or a validation, on every
    rank equally often; `observe` gets the rows of every step. `losing` tells whether the group is about to lose a node;
    it is asked every few seconds, on every rank at the same steps, and while it says so each of those steps ends with a
    checkpoint, which no accuracy is measured of. Checkpoints are uploaded beside the training, the last one before it
    returns. Raises `StageError` where one could not be written.
    """
    with BackgroundUpload() as upload:
        return _train(job, steps, worker, upload, report, observe, losing)


def _train(
    job: Job,
    steps: Iterator[list[Row]],
    worker: Worker,
    upload: BackgroundUpload,
    report: Callable[[dict[str, Any]], None] | None,
    observe: Callable[[int, list[Row]], None] | None,
    losing: Callable[[], bool] | None,
) -> Any:
    first = next(steps, None)
    start = job.num_steps if first is None else first[0]["position"] // job.config.global_batch
    engine = start_engine(job, worker, start)
    progress = None
    if worker.rank == 0:
        checkpoint.discard_after(job.store, start)
        progress = MetricsWriter(
            Store(job.out), name=job.name, start_step=start, num_steps=job.num_steps, trackers=Trackers(job.shown)
        )
    log = AuditLog(
        audit_store(Store(job.out), job.fingerprint),
        rank=worker.rank,
        start_step=start,
        gather=partial(_at_rank_0, worker),
    )
    following = steps if first is None else itertools.chain([first], steps)
    asked = time.monotonic()
    for step in range(start, job.num_steps):
        upload.check()
        rows = next(following, None)
        _check_positions(rows, step, worker, job.config.global_batch)
        assert rows is not None
        if observe:
            observe(step, rows)
        metrics = optimizer_step(engine, job, step, rows, worker)
        log.add(step, rows)
        last = step + 1 == job.num_steps
        saved = regular = (step + 1) % job.config.checkpoint_every == 0 or last
        if losing and _anywhere(time.monotonic() - asked > _ASK_EVERY_S, engine.device):
            asked = time.monotonic()
            saved = losing() or saved
        if job.config.validate_every and job.validation and ((step + 1) % job.config.validate_every == 0 or last):
            metrics["validation_loss"] = validation_loss(engine, job.validation, worker, job.config.micro_batch)
        if regular and job.labels:
            metrics |= label_accuracy(engine, job.labels, worker, job.config.micro_batch)
        if progress:
            progress.add(metrics)
        if saved:
            log.save(step + 1)
            _save(engine, job, step + 1, progress, upload)
        if report and (saved or "validation_loss" in metrics):
            report(metrics)
    upload.wait()
    if progress:
        progress.close()
    return engine


def start_engine(job: Job, worker: Worker, start_step: int) -> Any:
    """A DeepSpeed engine with the state after `start_step` steps (fresh for 0). Collective."""
    device = deepspeed.accelerator.get_accelerator().device_name()
    model = build_model(job.model_path, job.config, seed=job.seed, device=device)
    saved = checkpoint.read(job.store, start_step) if start_step else None
    if saved:
        deepspeed_state.load_weights(model, saved)
    parameters = list(deepspeed_state.trainable(model).values())
    engine, *_ = deepspeed.initialize(
        model=model, model_parameters=parameters, config=deepspeed_config(job.config, worker.world_size)
    )
    if saved:
        _empty_step(engine, accumulation(job.config, worker.world_size), job.config.micro_batch)
        deepspeed_state.restore_optimizer(engine, saved)
    return engine


def _empty_step(engine: Any, passes: int, rows: int) -> None:
    """One optimizer step that changes no weight (rate 0, gradients 0), so that the optimizer state exists."""
    _set_rate(engine, 0.0)
    row = Row(
        position=0, epoch=0, weight=0.0, prompt_ids=[0], answer_ids=[0], template="", cut_characters=0, example_id=""
    )
    batch = collate([row] * rows).to(engine.device)
    for _ in range(passes):
        engine.backward(forward(engine, batch).float().sum() * 0.0)
        engine.step()


def optimizer_step(engine: Any, job: Job, step: int, rows: list[Row], worker: Worker) -> dict[str, Any]:
    """Runs one optimizer step; metrics of it, equal on every rank (`grad_norm` before clipping; None for ZeRO-0, which
    does not tell it)."""
    begin = time.perf_counter()
    rate = learning_rate(step, job.num_steps, job.config)
    _set_rate(engine, rate)
    torch.manual_seed(_dropout_seed(job.seed, step, worker.rank))
    cut = sum(row["cut_characters"] > 0 for row in rows)
    local = torch.tensor([answer_tokens(rows), sum(map(length, rows)), cut], dtype=torch.float64, device=engine.device)
    dist.all_reduce(local)
    num_answer, num_tokens, num_cut = local.tolist()
    scale = accumulation(job.config, worker.world_size) * worker.world_size / num_answer
    total = torch.zeros((), dtype=torch.float64, device=engine.device)
    for chunk in micro_batches(rows, job.config.micro_batch):
        loss = answer_loss(forward(engine, batch := collate(chunk).to(engine.device)), batch)
        engine.backward(loss * scale)
        engine.step()
        total += loss.detach()
    dist.all_reduce(total)
    norm = engine.get_global_grad_norm()
    seconds = time.perf_counter() - begin
    return {
        "step": step + 1,
        "loss": total.item() / num_answer,
        "learning_rate": rate,
        "grad_norm": None if norm is None else float(norm),
        "tokens": int(num_tokens),
        "cut_rows": int(num_cut),
        "tokens_per_s": num_tokens / seconds,
        "time_s": seconds,
    }


def free_memory() -> None:
    """Gives back the memory of engines that were destroyed and that nothing refers to, so that a training does not add
    to the one before."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":  # whose malloc keeps what was freed between what is not
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory_gib(device: torch.device) -> float:
    """Largest memory of this process so far: resident on a CPU, allocated on an accelerator."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _save(engine: Any, job: Job, step: int, progress: MetricsWriter | None, upload: BackgroundUpload) -> None:
    """Collects a checkpoint (collective) and uploads it beside the training.

    Metrics first, then the checkpoint: a resumed run finds the metrics of all that it does not repeat; trackers last.
    """
    upload.wait()  # before the next state is collected: rank 0 holds one at a time
    current = deepspeed_state.collect(engine, step, keep=progress is not None)
    if progress is None or current is None:
        return
    meta = {
        "seed": job.seed,
        "position": step * job.config.global_batch,
        "fingerprint": job.fingerprint,
        "num_steps": job.num_steps,
    }

    def work() -> None:
        progress.save(step)
        best = (
            None
            if job.config.export == "last"
            else best_step(progress.until(step), [*checkpoint.steps(job.store), step], job.config.export)
        )
        checkpoint.write(job.store, current, meta, job.config.keep_checkpoints, spare=[] if best is None else [best])
        progress.publish(step)

    upload.start(f"{job.name}: checkpoint of step {step} was not written to {job.store.root}", work)


def _anywhere(here: bool, device: torch.device) -> bool:
    """Whether it is so on any rank. Collective."""
    found = torch.tensor(float(here), device=device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return bool(found)


def _at_rank_0(worker: Worker, value: Any) -> list[Any] | None:
    """The values of all ranks, at rank 0; None elsewhere. Collective."""
    values = [None] * worker.world_size if worker.rank == 0 else None
    dist.gather_object(value, values)
    return values


def _check_positions(rows: list[Row] | None, step: int, worker: Worker, global_batch: int) -> None:
    """A lost, repeated or misplaced row is an error and not a silence."""
    expected = step_positions(step, worker.rank, worker.world_size, global_batch)
    found = [] if rows is None else [row["position"] for row in rows]
    assert np.array_equal(found, expected), (
        f"step {step}, rank {worker.rank}: positions {found[:3]}... where {expected[0]}... was due"
    )


def _set_rate(engine: Any, rate: float) -> None:
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed % 2**32, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
