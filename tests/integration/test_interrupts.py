"""Ctrl-C and SIGTERM at a real training: the run goes on from its checkpoint, nothing stays behind, and twice is at
once. Issue 5, promise 7."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.support.small_run import ONE_ARM

_CHANGES = (
    *ONE_ARM,
    "score.enabled=true",
    "score.num_examples=2",
    "name=stopped",
    "train.num_steps=2000",
    "train.checkpoint_every=1",
    "train.global_batch=4",
    "train.micro_batch=2",
)
# The tests themselves may run in the background, where Ctrl-C is ignored.
_FOREGROUND = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from paft_ray.cli.main import "
    "main; main(sys.argv[1:])"
)
# Ray's sessions, torch's cache, and what Python's multiprocessing leaves in a worker that Ray kills.
_OF_LIBRARIES = ("ray", "torchinductor_", "pymp-")
_STARTED_S, _ENDED_S = 200, 60


def stopped(storage: Path, temporary: Path, signals: Sequence[int]) -> tuple[int, str, float, list[str]]:
    """(exit code, output, seconds from the last signal to the end, command lines before the first signal) of `paft
    run`, which gets the signals half a second apart after its next checkpoint.

    Fails where a process of it is still there a minute later.
    """
    mark, log = uuid.uuid4().hex, storage / "log.txt"
    changes = [part for change in (*_CHANGES, f"storage={storage}") for part in ("--set", change)]
    command = [sys.executable, "-c", _FOREGROUND, "run", "jobs/configs/demo.yaml", *changes]
    before = _newest(storage)
    with (
        log.open("w") as out,
        subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, "PAFT_TEST": mark, "TMPDIR": str(temporary)}
        ) as process,
    ):
        _wait(lambda: _newest(storage) > before or process.poll() is not None, _STARTED_S)
        running = _processes(mark)
        for number in signals:
            time.sleep(0.5)
            process.send_signal(number)
        begin = time.monotonic()
        process.wait(timeout=_ENDED_S)
        seconds = time.monotonic() - begin
    _wait(lambda: not _processes(mark), _ENDED_S)
    assert not _processes(mark), log.read_text()
    return process.returncode, log.read_text(), seconds, running


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A temporary folder of the command's own; its path is short, for sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="paft-t", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _newest(storage: Path) -> int:
    """Step of the newest checkpoint, 0 without one."""
    return max(
        (int(path.parent.name.removeprefix("step-")) for path in storage.rglob("checkpoints/*/step-*/manifest.json")),
        default=0,
    )


def _wait(done, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not done() and time.monotonic() < end:
        time.sleep(0.1)


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
def test_a_training_that_is_interrupted_goes_on_and_leaves_nothing_behind(tmp_path: Path, temporary: Path) -> None:
    step = 0
    for signals, expected in (([signal.SIGINT], 130), ([signal.SIGTERM], 143), ([signal.SIGINT, signal.SIGINT], 130)):
        code, said, seconds, running = stopped(tmp_path, temporary, signals)
        print(said, seconds)
        assert code == expected, said
        assert "Traceback" not in said
        if not step:
            assert any("ray::EngineActor" in line for line in running), "that of the score waits for the evaluation"
        else:
            assert f"resuming from checkpoint at step {step}" in said
        step = _newest(tmp_path)
        once = len(signals) == 1
        assert (tmp_path / "stopped/lease.json").exists() != once
        if once:
            assert [path.name for path in temporary.iterdir() if not path.name.startswith(_OF_LIBRARIES)] == []
            assert (
                "paft: interrupted; start the same command again: finished stages of run stopped are kept"
                in said.splitlines()[-1]
            )
        else:
            assert said.splitlines()[-1] == "paft: stopped at once"
            assert seconds < 5
