"""One worker's training: steps of rows in, trained engine out. A plain function; Ray is not needed to call it."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from paft_ray.errors import StageError
from paft_ray.storage.store import Store
from paft_ray.tracking.trackers import Trackers
from paft_ray.training import checkpoint, checkpoint_saving
from paft_ray.training.audit_log import AuditLog, audit_store
from paft_ray.training.background_upload import BackgroundUpload
from paft_ray.training.collectives import any_rank, gather_at_rank_0
from paft_ray.training.data_order import step_positions
from paft_ray.training.engine import start_engine
from paft_ray.training.example_builder import Row
from paft_ray.training.job import TrainingJob, Worker
from paft_ray.training.metrics_writer import MetricsWriter
from paft_ray.training.optimizer_step import optimizer_step
from paft_ray.training.validation import label_accuracy, validation_loss

_ASK_EVERY_S = 5
_MOST_LOST = 3


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What a caller learns of a training, and passes to it."""

    report: Callable[[dict[str, Any]], None] = lambda metrics: None
    """Gets the metrics of a step with a checkpoint or a validation, on every rank equally often."""
    observe: Callable[[int, list[Row]], None] = lambda step, rows: None
    """Gets this rank's rows of every step."""
    is_preempted: Callable[[], bool] | None = None
    """Whether the group is about to lose a node. Asked every few seconds, on every rank at the same steps; while it
    says so each of those steps ends with a checkpoint, whose accuracy is not measured."""


def train(job: TrainingJob, steps: Iterator[list[Row]], worker: Worker, hooks: Hooks | None = None) -> Any:
    """The DeepSpeed engine after the last step.

    `steps` gives this rank's rows of one step after another, from the step at which to start; the state of that step is
    read from the newest checkpoint. Checkpoints are uploaded while training continues, the last one before it returns.
    Raises `StageError` where one could not be written, and where training has diverged.
    """
    hooks = hooks or Hooks()
    first = next(steps, None)
    start = job.num_steps if first is None else first[0]["position"] // job.config.global_batch
    rows_of_steps = steps if first is None else itertools.chain([first], steps)
    with BackgroundUpload() as upload:
        engine = start_engine(job, worker, start)
        recorder = _Recorder.open(job, worker, start, upload)
        preemption = _PreemptionWatch(hooks.is_preempted, engine.device)
        divergence = _DivergenceWatch(job.label)
        for step in range(start, job.num_steps):
            upload.check()
            rows = checked_rows(next(rows_of_steps, None), step, worker, job.config.global_batch)
            hooks.observe(step, rows)
            metrics = optimizer_step(engine, job, step, rows, worker)
            divergence.look(metrics)
            recorder.log.add(step, rows)
            saves = preemption.is_announced() or _is_regular(job, step + 1)
            metrics |= _validated(engine, job, worker, step + 1)
            recorder.add(metrics)
            if saves:
                recorder.save(engine, step + 1)
            if saves or "validation_loss" in metrics:
                hooks.report(metrics)
        upload.wait()
        recorder.close()
    return engine


def checked_rows(rows: list[Row] | None, step: int, worker: Worker, global_batch: int) -> list[Row]:
    """The rows of a step: a lost, repeated or misplaced one is an error and not a silence."""
    expected = step_positions(step, worker.rank, worker.world_size, global_batch)
    found = [] if rows is None else [row["position"] for row in rows]
    assert np.array_equal(found, expected), (
        f"step {step}, rank {worker.rank}: positions {found[:3]}... where {expected[0]}... was due"
    )
    return rows or []


def _is_regular(job: TrainingJob, done: int) -> bool:
    """Whether a checkpoint is due after `done` steps."""
    return done % job.config.checkpoint_every == 0 or done == job.num_steps


def _validated(engine: Any, job: TrainingJob, worker: Worker, done: int) -> dict[str, float]:
    """Metrics of the validations that are due after `done` steps. Collective."""
    every, metrics = job.config.validate_every, {}
    if every and job.validation and (done % every == 0 or done == job.num_steps):
        metrics["validation_loss"] = validation_loss(engine, job.validation, worker, job.config.micro_batch)
    if job.labels and _is_regular(job, done):
        metrics |= label_accuracy(engine, job.labels, worker, job.config.micro_batch)
    return metrics


class _DivergenceWatch:
    """Ends a training whose weights give no loss any more. DeepSpeed leaves a single such step out, from ZeRO-1 on."""

    def __init__(self, label: str) -> None:
        self._label, self._lost = label, 0

    def look(self, metrics: Mapping[str, Any]) -> None:
        """Takes the metrics of a step, which are the same on every rank. Raises `StageError` at the last of
        `_MOST_LOST` steps in a row whose loss is no number."""
        self._lost = 0 if math.isfinite(metrics["loss"]) else self._lost + 1
        if self._lost == _MOST_LOST:
            raise StageError(
                f"{self._label} training diverged: the loss of steps {metrics['step'] - _MOST_LOST + 1} to "
                f"{metrics['step']} is no number; lower train.learning_rate, or raise train.warmup_fraction"
            )


class _PreemptionWatch:
    """Asks whether the group is about to lose a node."""

    def __init__(self, is_preempted: Callable[[], bool] | None, device: torch.device) -> None:
        self._is_preempted = is_preempted
        self._device = device
        self._asked = time.monotonic()

    def is_announced(self) -> bool:
        """Whether a preemption is announced, asked every few seconds; False in between. Collective."""
        if self._is_preempted is None or not any_rank(time.monotonic() - self._asked > _ASK_EVERY_S, self._device):
            return False
        self._asked = time.monotonic()
        return self._is_preempted()


@dataclass(frozen=True, kw_only=True)
class _Recorder:
    """What a training leaves on storage: audit log, metrics, checkpoints."""

    job: TrainingJob
    upload: BackgroundUpload
    log: AuditLog
    writer: MetricsWriter | None
    """Rank 0's; None at the others."""

    @classmethod
    def open(cls, job: TrainingJob, worker: Worker, start: int, upload: BackgroundUpload) -> _Recorder:
        """The recorder of a training from step `start` on: what an earlier attempt left beyond it is removed."""
        out, writer = Store(job.out), None
        if worker.rank == 0:
            checkpoint.discard_after(job.store, start)
            writer = MetricsWriter(
                out,
                checkpoints=job.store,
                label=job.label,
                start_step=start,
                num_steps=job.num_steps,
                trackers=Trackers(job.tracker_run),
            )
        log = AuditLog(
            audit_store(out, job.fingerprint),
            rank=worker.rank,
            start_step=start,
            gather=partial(gather_at_rank_0, worker),
        )
        return cls(job=job, upload=upload, log=log, writer=writer)

    def add(self, metrics: dict[str, Any]) -> None:
        if self.writer:
            self.writer.add(metrics)

    def save(self, engine: Any, done: int) -> None:
        """Writes the audit log, then the checkpoint after `done` steps. Collective."""
        self.log.save(done)
        checkpoint_saving.save(engine, self.job, done, self.writer, self.upload)

    def close(self) -> None:
        if self.writer:
            self.writer.close()
