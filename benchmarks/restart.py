"""What a restart costs: seconds from a kill to the first training step again, and the share of the steps that is done twice, by `train.checkpoint_every`.

`python -m benchmarks.restart [REPEATS]` from the repository. Every training (tiny model, 2 workers, a Ray node that goes on) is struck after half of its steps,
at a random moment between two checkpoints: a worker (Ray Train starts the group anew) or the driver (the same command is started again).
Steps done twice: time from the newest checkpoint to the kill over the time of a step.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.chaos import cluster, leaks
from tests.chaos.attempt import start, strike
from tests.chaos.lab import NAME, Lab
from tests.chaos.plan import Fault

STEPS = 400
EVERY = (5, 20, 80)
KINDS = ("sigkill_worker", "sigkill_driver")
_LIMIT_S = 300


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one kill."""

    seconds: float
    """From the kill to the first step again."""
    repeated: float
    """Share of all steps that is done twice."""


def measure(lab: Lab, kind: str, every: int, moment: float) -> Cost:
    """Strikes one training; it is ended after its first step again."""
    home = lab.folder / f"restart-{kind}-{every}"
    lab.copy_inputs("train", home / NAME)
    log = home / "log"
    command = lab.command("train", home, f"train.num_steps={STEPS}", f"train.checkpoint_every={every}")
    process = start(command, lab.cluster.environment, log)
    try:
        _wait(lambda: _checkpoints(home)[-1][0] >= STEPS // 2, log)
        (_, before), (_, at) = _checkpoints(home)[-2:]
        time.sleep(moment * (at - before))
        told = log.stat().st_size
        assert strike(Fault(number=1, stage="train", kind=kind, moment=moment), process.pid, lab.cluster.sessions)
        struck, (kept, written) = time.time(), _checkpoints(home)[-1]
        if kind == "sigkill_driver":
            process.wait()
            process = start(command, lab.cluster.environment, log)
        _wait(lambda: f"step {kept + 1}/" in log.read_bytes()[told:].decode(), log)
        return Cost(seconds=time.time() - struck, repeated=min(1.0, (struck - written) / (at - before)) * every / STEPS)
    finally:
        process.kill()
        process.wait()
        leaks.after_end(process.pid, lab.cluster)
        shutil.rmtree(home)


def _checkpoints(home: Path) -> list[tuple[int, float]]:
    """(step, time of writing) of the whole checkpoints, after (0, 0) for the start."""
    found = home.glob(f"{NAME}/train/*/checkpoints/*/step-*/manifest.json")
    return [(0, 0.0), *sorted((int(path.parent.name.removeprefix("step-")), path.stat().st_mtime) for path in found)]


def _wait(true: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing happened within {_LIMIT_S} s: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def main(repeats: int) -> None:
    """Prints the table."""
    random = np.random.default_rng(0)
    scratch = Path(tempfile.mkdtemp(prefix="paft-restart-", dir="/tmp"))
    try:
        with cluster.started(scratch, head_cpus=8) as head, cluster.joined(head):
            lab = Lab(folder=scratch, scratch=scratch, cluster=head)
            lab.prepare(["synthesize"])
            print("| checkpoint_every | killed | seconds to the first step again | share of the steps done twice | expected |\n|---|---|---|---|---|")
            for every in EVERY:
                for kind in KINDS:
                    costs = [measure(lab, kind, every, random.random()) for _ in range(repeats)]
                    seconds, repeated = (np.mean([getattr(cost, name) for cost in costs]) for name in ("seconds", "repeated"))
                    print(f"| {every} | {kind.removeprefix('sigkill_')} | {seconds:.1f} | {repeated:.2%} | {every / 2 / STEPS:.2%} |", flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
