"""Ctrl-C and SIGTERM at a real training: the run goes on from its checkpoint, nothing stays behind, and twice is at once. Issue 5, promise 7."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.small_run import ONE_ARM

_CHANGES = (*ONE_ARM, "name=stopped", "train.num_steps=2000", "train.checkpoint_every=1")
_ENDED_S = 60


def stopped(storage: Path, awaited: str, signals: Sequence[int]) -> tuple[int, str, float]:
    """(exit code, output, seconds from the last signal to the end) of `paft run`, which gets the signals a second apart once it says `awaited`.

    Fails where a process of it is still there afterwards.
    """
    mark = uuid.uuid4().hex
    changes = [part for change in (*_CHANGES, f"storage={storage}") for part in ("--set", change)]
    command = [sys.executable, "-m", "paft_ray", "run", "jobs/configs/demo.yaml", *changes]
    said = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PAFT_TEST": mark}) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if awaited in line:
                break
        for number in signals:
            time.sleep(1)
            process.send_signal(number)
        begin = time.monotonic()
        said.append(process.communicate(timeout=_ENDED_S)[0])
        seconds = time.monotonic() - begin
    end = time.monotonic() + _ENDED_S
    while (left := _processes(mark)) and time.monotonic() < end:
        time.sleep(0.5)
    assert not left, "".join(said)
    return process.returncode, "".join(said), seconds


def _processes(mark: str) -> list[str]:
    """Command lines of those that inherited the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PAFT_TEST") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:200])
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_a_training_that_is_interrupted_goes_on_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for number, code, once in ((signal.SIGINT, 130, True), (signal.SIGTERM, 143, True), (signal.SIGINT, 130, False)):
        resumed = number == signal.SIGTERM or not once
        awaited = "goes on from the checkpoint of step" if resumed else "paft-s0: step 1/"
        found, said, seconds = stopped(tmp_path, awaited, [number] if once else [number, number])
        print(said, seconds)
        assert found == code, said
        assert awaited in said
        assert "Traceback" not in said
        assert (tmp_path / "stopped/lease.json").exists() != once
        if once:
            assert "paft: interrupted; start the same command again: finished stages of run stopped are kept" in said.splitlines()[-1]
        else:
            assert seconds < 5
