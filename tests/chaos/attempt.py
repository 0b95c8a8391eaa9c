"""One start of a command: watched, struck by a fault at its moment, and ended at a limit."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.chaos.node import ROOT
from tests.chaos.plan import Fault
from tests.chaos.processes import raylet, workers

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
        return subprocess.Popen(command, cwd=ROOT, env=dict(environment), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True)


def attempt(
    command: Sequence[str], environment: Mapping[str, str], log: Path, *, stage: str, node: int | None, limit_s: float, fault: Fault | None = None,
    reference: Span | None = None,
) -> Ended:  # fmt: skip
    """Starts `command` in a session of its own. `node`: session of the Ray node that it joins; None: it starts its own."""
    process = start(command, environment, log)
    session, begin = node or process.pid, time.monotonic()
    seen: float | None = None
    struck: float | None = None
    while process.poll() is None and (now := time.monotonic() - begin) < limit_s:
        if seen is None and workers(session, stage):
            seen = now
        if fault and reference and struck is None and _due(fault, reference, now, seen) and strike(fault, process.pid, session):
            struck = now
        time.sleep(_LOOK_EVERY_S)
    code = process.poll()
    seconds = time.monotonic() - begin
    if code is None:
        process.kill()
        process.wait(timeout=30)
    return Ended(code=code, session=process.pid, span=Span(seconds=seconds, worker_s=seen), struck_s=struck)


def _due(fault: Fault, reference: Span, now: float, seen: float | None) -> bool:
    if fault.stage in _SINCE_WORKER or fault.kind == "sigkill_worker":
        return seen is not None and now >= seen + fault.moment * (reference.seconds - (reference.worker_s or 0.0))
    return now >= fault.moment * reference.seconds


def strike(fault: Fault, driver: int, session: int) -> bool:
    """Whether there was something to strike: a worker by chance (the fault's moment decides), else the one there is."""
    if fault.kind.endswith("_driver"):
        found = [psutil.Process(driver)]
    elif fault.kind == "sigkill_raylet":
        found = raylet(session)
    else:
        found = workers(session, fault.stage)
    if not found:
        return False
    victim = found[int(fault.moment * 1000) % len(found)]
    try:
        victim.send_signal(signal.SIGTERM if fault.kind.startswith("sigterm") else signal.SIGKILL)
    except psutil.NoSuchProcess:
        return False
    return True
