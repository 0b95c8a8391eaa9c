"""Saves a checkpoint while training continues."""

from __future__ import annotations

from typing import Any

from paft_ray.training import checkpoint, deepspeed_state
from paft_ray.training.background_upload import BackgroundUpload
from paft_ray.training.best_step import best_step
from paft_ray.training.job import TrainingJob
from paft_ray.training.metrics_writer import MetricsWriter


def save(engine: Any, job: TrainingJob, step: int, writer: MetricsWriter | None, upload: BackgroundUpload) -> None:
    """Collects a checkpoint (collective) and uploads it in the background. `writer`: rank 0's.

    Metrics first, then the checkpoint: a resumed run finds the metrics of all that it does not repeat; trackers last.
    """
    upload.wait()  # before the next state is collected: rank 0 holds one at a time
    state = deepspeed_state.collect(engine, step, keep=writer is not None)
    if writer is None or state is None:
        return
    meta = {
        "seed": job.seed,
        "position": step * job.config.global_batch,
        "fingerprint": job.fingerprint,
        "num_steps": job.num_steps,
    }

    def work() -> None:
        writer.save(step)
        checkpoint.write(job.store, state, meta, job.config.keep_checkpoints, spare=_best(job, step, writer))
        writer.publish(step)

    upload.start(f"{job.label} checkpoint of step {step} was not written to {job.store.root}", work)


def _best(job: TrainingJob, step: int, writer: MetricsWriter) -> list[int]:
    """The step whose checkpoint `train.export` would export so far, that of `step` included; none for the last one."""
    if job.config.export == "last":
        return []
    best = best_step(writer.until(step), [*checkpoint.steps(job.store), step], job.config.export)
    return [] if best is None else [best]
