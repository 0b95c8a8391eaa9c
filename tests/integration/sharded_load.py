"""One gloo process of test_sharded_load: `python sharded_load.py MODEL RANK WORLD PORT` loads a model under ZeRO-3 and
prints its private memory in bytes (JSON): before, at most, afterwards."""

import json
import os
import sys
import threading

MODEL, RANK, WORLD, PORT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.environ.update(
    DS_ACCELERATOR="cpu",
    RANK=str(RANK),
    LOCAL_RANK=str(RANK),
    WORLD_SIZE=str(WORLD),
    MASTER_ADDR="127.0.0.1",
    MASTER_PORT=PORT,
)

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

from paft_ray.config import TrainConfig  # noqa: E402
from paft_ray.models.local import find_model  # noqa: E402
from paft_ray.training.engine import start_engine  # noqa: E402
from paft_ray.training.job import TrainingJob, Worker  # noqa: E402


def private_bytes() -> int:
    """Memory of this process that no file stands behind. Pages of the mapped weight file, which the kernel can take
    back, do not count."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=RANK, world_size=WORLD)
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
    print(json.dumps({"before": before, "peak": peak[0], "after": private_bytes()}), flush=True)
    dist.barrier()
    engine.destroy()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
