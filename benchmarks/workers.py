"""Training with one and two workers and at every ZeRO stage: the whole path beside itself at one worker and ZeRO-2, and two workers beside TRL.

`python -m benchmarks.workers`. Processes take turns as in training.py; two workers share the cores. TRL runs as two processes under torchrun with the
settings that were its best with one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.results import in_turns, paired, record
from benchmarks.training import SETTINGS, prepare, trl, whole_path

_TWO = ("train.num_workers=2",)
WAYS = {
    "1 worker, ZeRO-2": (),
    "1 worker, ZeRO-0": ("train.zero_stage=0",),
    "1 worker, ZeRO-3": ("train.zero_stage=3",),
    "2 workers, ZeRO-2": _TWO,
    "2 workers, ZeRO-0": (*_TWO, "train.zero_stage=0"),
    "2 workers, ZeRO-3": (*_TWO, "train.zero_stage=3"),
}
TRL = "TRL SFTTrainer, padding-free, two processes"


def main(pairs: int, num_steps: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        work = prepare(Path(scratch), num_steps)
        ways = {name: lambda further=further: whole_path(work, further) for name, further in WAYS.items()}
        ways[TRL] = lambda: trl(work, {**SETTINGS["padding-free"], "gradient_accumulation_steps": 1}, processes=2)
        found: dict[str, list[float]] = {name: [] for name in ways}
        for name in in_turns(ways, pairs):
            speed, memory = ways[name]()
            found[name].append(speed)
            print(f"{name}: {speed:.0f} tokens/s, {memory:.2f} GiB a worker", flush=True)
    first, *others = WAYS
    alike = {"unit": "tokens/s", "more_is_better": True}
    record(
        [
            *(paired(f"training, {name}", found[name], found[first], peer_name=f"paft_ray with {first}", **alike) for name in others),
            paired("training, 2 workers, ZeRO-2", found["2 workers, ZeRO-2"], found[TRL], peer_name=TRL, **alike),
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=7, help="of a training, warm-up included")
    given = parser.parse_args()
    main(given.pairs, given.steps)
