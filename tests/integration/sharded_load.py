"""One gloo process of test_sharded_load (`tests/support/gloo.py`): `python sharded_load.py MODEL` loads a model under
ZeRO-3 and writes its private memory in bytes into MODEL/memory-RANK.json: before, at most, afterwards."""

import json
import os
import sys
import threading
from pathlib import Path

import torch
import torch.distributed as dist

from paft_ray.config import TrainConfig
from paft_ray.models.local import find_model
from paft_ray.training.engine import start_engine
from paft_ray.training.job import TrainingJob, Worker

MODEL, RANK, WORLD = sys.argv[1], int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def private_bytes() -> int:
    """Memory of this process that no file stands behind. Pages of the mapped weight file, which the kernel can take
    back, do not count."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    config = TrainConfig(
        num_workers=WORLD, global_batch=4 * WORLD, micro_batch=4, precision="fp32", zero_stage=3, num_epochs=None,
        num_steps=1,
    )  # fmt: skip
    job = TrainingJob(
        config=config,
        model=find_model(MODEL, None),
        seed=0,
        num_steps=1,
        out="/nowhere",
        fingerprint="f",
        label="job",
        labels=None,
    )
    before, peak, ended = private_bytes(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], private_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    engine = start_engine(job, Worker(rank=RANK, world_size=WORLD), 0)
    ended.set()
    watcher.join()
    memory = {"before": before, "peak": peak[0], "after": private_bytes()}
    Path(MODEL, f"memory-{RANK}.json").write_text(json.dumps(memory))
    dist.barrier()
    engine.destroy()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
