"""One start of a command: watched, struck by a fault at its moment, and ended at a limit."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.chaos.cluster import ROOT
from tests.chaos.plan import Fault
from tests.chaos.processes import end_sessions, raylets, workers

_LOOK_EVERY_S = 0.05
_SINCE_WORKER = ("score", "train", "evaluate")
"""Stages whose moments count from the first sight of a worker: before it they only start."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """How long an uninterrupted start took."""

    seconds: float
    """From start to end."""
    worker_s: float | None
    """From start to the first sight of a worker of the stage; None where it has none."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a start went."""

    code: int | None
    """Exit code; None where it was still going at the limit."""
    session: int
    """Session of its processes."""
    span: Span
    struck_s: float | None
    """From start to the fault; None where none fell."""


def start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """The command's process, in a session of its own."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )


@dataclass(frozen=True, kw_only=True)
class Blow:
    """A fault with what tells its moment."""

    fault: Fault
    reference: Span
    steps_done: Callable[[], float]
    """Share of the training's steps that its newest checkpoint has."""

    def due(self, now: float, seen: float | None) -> bool:
        """`now` and the first sight of a worker: seconds from the start."""
        if self.fault.among_steps:
            return (done := self.steps_done()) > 0 and done >= self.fault.moment
        if self.fault.stage in _SINCE_WORKER or self.fault.kind == "sigkill_worker":
            return seen is not None and now >= seen + self.fault.moment * (
                self.reference.seconds - (self.reference.worker_s or 0.0)
            )
        return now >= self.fault.moment * self.reference.seconds


def attempt(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    *,
    stage: str,
    cluster: Sequence[int],
    limit_s: float,
    blow: Blow | None = None,
) -> Ended:
    """Starts `command` in a session of its own. `cluster`: sessions of the nodes of the Ray that it joins, the head
    first; none: it starts its own."""
    process = start(command, environment, log)
    sessions, begin = tuple(cluster) or (process.pid,), time.monotonic()
    seen: float | None = None
    struck: float | None = None
    while process.poll() is None and (now := time.monotonic() - begin) < limit_s:
        if seen is None and workers(sessions, stage):
            seen = now
        if blow and struck is None and blow.due(now, seen) and strike(blow.fault, process.pid, sessions):
            struck = now
        time.sleep(_LOOK_EVERY_S)
    code = process.poll()
    seconds = time.monotonic() - begin
    if code is None:
        process.kill()
        process.wait(timeout=30)
    return Ended(code=code, session=process.pid, span=Span(seconds=seconds, worker_s=seen), struck_s=struck)


def strike(fault: Fault, driver: int, sessions: Sequence[int]) -> bool:
    """Whether there was something to strike: where there are several, the fault's moment decides.

    `sessions`: of the nodes, the head first; `node_loss` takes all processes of a node beside the head that holds a
    worker.
    """
    if fault.kind.endswith("_driver"):
        found = [psutil.Process(driver)]
    elif fault.kind == "sigkill_raylet":
        found = raylets(sessions)
    else:
        found = workers(sessions[1:] if fault.kind == "node_loss" else sessions, fault.stage)
    if not found:
        return False
    victim = found[int(fault.moment * 1000) % len(found)]
    try:
        if fault.kind == "node_loss":
            end_sessions(os.getsid(victim.pid))
        else:
            victim.send_signal(signal.SIGTERM if fault.kind.startswith("sigterm") else signal.SIGKILL)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False
    return True
