"""Training with one and two workers and at every ZeRO stage: the complete path next to itself at one worker and ZeRO-2.

`python -m benchmarks.workers`. Processes take turns as in training.py; two workers share the cores."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.results import interleaved, paired, record
from benchmarks.training import prepare, whole_path

_TWO = ("train.num_workers=2",)
WAYS = {
    "1 worker, ZeRO-2": (),
    "1 worker, ZeRO-0": ("train.zero_stage=0",),
    "1 worker, ZeRO-3": ("train.zero_stage=3",),
    "2 workers, ZeRO-2": _TWO,
    "2 workers, ZeRO-0": (*_TWO, "train.zero_stage=0"),
    "2 workers, ZeRO-3": (*_TWO, "train.zero_stage=3"),
}


def main(pairs: int, num_steps: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        work = prepare(Path(scratch), num_steps)
        ways = {name: lambda further=further: whole_path(work, further) for name, further in WAYS.items()}
        found: dict[str, list[float]] = {name: [] for name in ways}
        for name in interleaved(ways, pairs):
            speed, memory = ways[name]()
            found[name].append(speed)
            print(f"{name}: {speed:.0f} tokens/s, {memory:.2f} GiB a worker", flush=True)
    first, *others = WAYS
    record(
        [
            paired(
                f"training, {name}",
                found[name],
                found[first],
                peer_name=f"paft_ray with {first}",
                unit="tokens/s",
                more_is_better=True,
            )
            for name in others
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=7, help="of a training, warm-up included")
    given = parser.parse_args()
    main(given.pairs, given.steps)
