"""Processes by the ids of their sessions: Ray's nodes and workers stay in the session of the command that started
them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence

import psutil

WORKERS = {
    "prepare": "MapBatches(_read)",
    "synthesize": "EngineActor",
    "score": "EngineActor",
    "train": "RayTrainWorker",
    "evaluate": "EngineActor",
}
"""Stage -> part of the title of the Ray workers that do its work."""
_QUIET = (
    "ray::IDLE", "ray::SPILL", "ray::RESTORE", "ray::DashboardAgent", "ray::RuntimeEnvAgent",
    "ray::_StatsActor", "ray::_AutoscalingCoordinatorActor", "ray::_TelemetryAgent", "ray::ActorLocationTracker",
)  # fmt: skip
"""Titles of what Ray itself keeps in a cluster whether a driver is there or not."""


def of_sessions(*sessions: int) -> list[psutil.Process]:
    """Their living processes, the leaders included, by process id."""
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) in sessions and (process := psutil.Process(pid)).status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


def title(process: psutil.Process) -> str:
    """Its command line in one string, empty where it is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def workers(sessions: Sequence[int], stage: str) -> list[psutil.Process]:
    """The Ray workers of a stage."""
    wanted = WORKERS.get(stage)
    return [p for p in of_sessions(*sessions) if wanted and wanted in title(p) and title(p).startswith("ray::")]


def raylets(sessions: Sequence[int]) -> list[psutil.Process]:
    """The raylets of the sessions' nodes."""
    return [p for p in of_sessions(*sessions) if title(p).split(" ")[0].endswith("/raylet")]


def busy(sessions: Sequence[int]) -> list[str]:
    """Titles of the Ray workers that belong to a driver."""
    titles = [title(p) for p in of_sessions(*sessions)]
    return sorted(t.strip() for t in titles if t.startswith("ray::") and not t.startswith(_QUIET))


def end_sessions(*sessions: int) -> None:
    """Kills what is left of them."""
    for process in of_sessions(*sessions):
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue


def wait_until_none(look: Callable[[], list[str]], timeout_s: float) -> list[str]:
    """What `look` still finds at the end of the time, empty as soon as it finds nothing."""
    deadline = time.monotonic() + timeout_s
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found
