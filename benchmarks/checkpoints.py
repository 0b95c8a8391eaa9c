"""What share of a checkpoint's time is hidden behind the training: uploads beside it against waiting for each, on a slow store.

`python benchmarks/checkpoints.py [MB_PER_S]`. The real loop on the small real model (LoRA rank 8 on all linear layers), one process; a store that
takes so long for every byte, and 50 ms for every file. Both ways train the same steps one after the other in one process, and must end with the
same weights. Measured per checkpoint: seconds between two optimizer steps that belong to neither.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as training workers have it
os.environ.update(DS_ACCELERATOR="cpu", RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="29632")

import torch
import torch.distributed as dist
from data_path import TASK, TEMPLATES, table_of

from paft_ray.artifacts import Run
from paft_ray.config import ModelConfig, TrainConfig
from paft_ray.models import resolve_model
from paft_ray.prompts.draw import PerExample
from paft_ray.training import checkpoint, loop, upload
from paft_ray.training.data import make_encoder
from paft_ray.training.order import step_positions
from paft_ray.training.progress import read_metrics
from paft_ray.training.rows import Row, RowMaker, rows_of

STEPS, EVERY = 12, 3
FILE_S = 0.05


class SlowRun(Run):
    """A store far away."""

    mb_per_s = 10.0

    def write_bytes(self, relative: str, data: bytes) -> None:
        time.sleep(FILE_S + len(data) / 1e6 / self.mb_per_s)
        super().write_bytes(relative, data)


@dataclass(frozen=True, kw_only=True)
class SlowJob(loop.Job):
    """A job whose checkpoints go there."""

    @property
    def store(self) -> Run:
        return SlowRun(f"{self.out}/checkpoints/{self.fingerprint}")


class Waiting(upload.Upload):
    """The peer: each upload is waited for."""

    def start(self, what: str, work: Any) -> None:
        super().start(what, work)
        self.wait()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One training."""

    paused_s: list[float]
    """Per checkpoint on the way: seconds until the next step began, loading of its rows taken off."""
    last_s: float
    """From the end of the last step to the end of the training."""
    step_s: float
    """Median optimizer step."""
    whole_s: float
    weights: dict[str, torch.Tensor]


def measure(kind: type[upload.Upload], batches: list[list[Row]], path: str, folder: str) -> Measured:
    """Trains all batches; `kind` says how uploads are waited for."""
    config = TrainConfig(num_epochs=None, num_steps=STEPS, checkpoint_every=EVERY)
    job = SlowJob(config=config, model_path=path, seed=0, num_steps=STEPS, out=folder, fingerprint="f", name=kind.__name__)
    begun: list[float] = []
    loop.Upload = kind  # type: ignore[misc]
    loop.train(job, iter(batches), loop.Worker(rank=0, world_size=1), observe=lambda step, rows: begun.append(time.perf_counter()))
    end = time.perf_counter()
    took = [row["time_s"] for row in read_metrics(Run(folder))]
    gaps = [after - before - seconds for before, after, seconds in zip(begun, [*begun[1:], end], took, strict=True)]
    return Measured(
        paused_s=gaps[EVERY - 1 : -1 : EVERY],
        last_s=gaps[-1],
        step_s=statistics.median(took),
        whole_s=end - begun[0],
        weights=checkpoint.read(job.store, STEPS).tensors,
    )


def main() -> None:
    SlowRun.mb_per_s = float(sys.argv[1]) if len(sys.argv) > 1 else SlowRun.mb_per_s
    path = resolve_model("demo", None)
    dist.init_process_group("gloo", rank=0, world_size=1)
    encoder = make_encoder(TASK, ModelConfig(), path)
    maker = RowMaker(table=table_of(400), templates=TEMPLATES, encoder=encoder, draw=PerExample(seed=0), seed=0, num_positions=10**9)
    batches = [rows_of(maker.rows(step_positions(step, 0, 1, TrainConfig().global_batch))) for step in range(STEPS)]
    with tempfile.TemporaryDirectory() as scratch:
        found = {kind: measure(kind, batches, path, f"{scratch}/{kind.__name__}") for kind in (Waiting, upload.Upload)}
    waiting, beside = found[Waiting], found[upload.Upload]
    assert all(torch.equal(tensor, beside.weights[name]) for name, tensor in waiting.weights.items()), "the two trainings differ"
    size = sum(tensor.numel() * 4 for tensor in beside.weights.values()) / 1e6
    print(f"{STEPS} steps, a checkpoint of {size:.1f} MB every {EVERY}; store: {SlowRun.mb_per_s:g} MB/s, {FILE_S * 1000:g} ms a file\n")
    print("| uploads | pause per checkpoint, s | after the last step, s | optimizer step, s | whole training, s |\n|---|---|---|---|---|")
    for name, one in (("waited for", waiting), ("beside the training", beside)):
        print(f"| {name} | {statistics.mean(one.paused_s):.2f} | {one.last_s:.2f} | {one.step_s:.2f} | {one.whole_s:.1f} |")
    print(f"\nhidden on the way: {1 - sum(beside.paused_s) / sum(waiting.paused_s):.0%} of a checkpoint's time")


if __name__ == "__main__":
    main()
