"""Kills a process while it writes checkpoints, again and again: `python -m tests.support.checkpoint_kills FOLDER KILLS
SEED`. No Ray.

Every child goes on from the newest whole checkpoint and is ended by SIGKILL at a random moment. Prints one JSON object:
kills, how many of them left a folder without a manifest, and what was wrong.
"""

import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from paft_ray.storage.store import Store
from paft_ray.training import checkpoint

KEEP = 2
_ELEMENTS = 500_000  # 2 MB a checkpoint: long enough in writing to be hit
_WRITES = 4  # the longest life of a child, in checkpoints


def state(step: int) -> checkpoint.TrainingState:
    """A state that tells its step in every element."""
    return checkpoint.TrainingState(step=step, tensors={"weight/a": torch.full((_ELEMENTS,), float(step))})


def write_on(store: Store, told: int) -> None:
    """Goes on from the newest checkpoint for ever; tells the step that it starts from, then each one once its `write`
    has returned."""
    start = checkpoint.newest(store, lambda line: None)
    os.write(told, start.to_bytes(8, "little"))
    checkpoint.discard_after(store, start)
    for step in itertools.count(start + 1):
        checkpoint.write(store, state(step), {}, KEEP)
        os.write(told, step.to_bytes(8, "little"))


def kill_once(store: Store, delay_s: float) -> tuple[int, int]:
    """First and last step that a child told before it was killed, so long after it started: the one that it went on
    from, and the last one whose `write` returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        write_on(store, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        first = told.read(8)
        time.sleep(delay_s)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"the child ended by itself: {status}"
        return int.from_bytes(first, "little"), int.from_bytes((first + told.read())[-8:], "little")


def seconds_of_a_write(folder: str) -> float:
    """Of the second one: the first one looks up versions."""
    store = Store(folder)
    for step in (1, 2):
        start = time.perf_counter()
        checkpoint.write(store, state(step), {}, KEEP)
    return time.perf_counter() - start


def main(folder: str, kills: int, seed: int) -> None:
    store, rng, done, torn, wrong = Store(folder), random.Random(seed), 0, 0, []
    unfinished = 0  # kills in a row whose child finished no write: each may leave a folder that none has removed yet
    torch.set_num_threads(1)
    longest_s = _WRITES * seconds_of_a_write(f"{folder}/scratch")
    for kill in range(kills):
        start, last = kill_once(store, rng.uniform(0.0, longest_s))
        done, unfinished = max(done, last), 0 if last > start else unfinished + 1
        folders = sorted(p for p in Path(folder).glob("step-*"))
        torn += any(not (p / "manifest.json").exists() for p in folders)
        step = checkpoint.newest(store, lambda line: None)
        if step < done:
            wrong.append(f"kill {kill}: step {done} was written, {step} is found")
        if step and not torch.equal(checkpoint.read(store, step).tensors["weight/a"], state(step).tensors["weight/a"]):
            wrong.append(f"kill {kill}: step {step} holds another state")
        if len(folders) > KEEP + 1 + unfinished:  # a write that returned leaves KEEP; then one is being written
            wrong.append(f"kill {kill}: {len(folders)} folders are kept")
    print(json.dumps({"kills": kills, "torn": torn, "steps": done, "wrong": wrong}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
