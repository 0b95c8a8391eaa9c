"""The processes of one session, by its id: Ray's nodes and workers stay in the session of the command that started them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil

WORKERS = {
    "prepare": "MapBatches(_read)",
    "synthesize": "vLLMEngineStageUDF",
    "score": "vLLMEngineStageUDF",
    "train": "RayTrainWorker",
    "evaluate": "vLLMEngineStageUDF",
}
"""Stage -> part of the title of the Ray workers that do its work."""
_QUIET = (
    "ray::IDLE", "ray::SPILL", "ray::RESTORE", "ray::DashboardAgent", "ray::RuntimeEnvAgent",
    "ray::_StatsActor", "ray::_AutoscalingCoordinatorActor", "ray::_TelemetryAgent", "ray::ActorLocationTracker",
)  # fmt: skip
"""Titles of what Ray itself keeps in a cluster whether a driver is there or not."""


def of_session(session: int) -> list[psutil.Process]:
    """Its living processes, the leader included."""
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == session and (process := psutil.Process(pid)).status() != psutil.STATUS_ZOMBIE:
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


def workers(session: int, stage: str) -> list[psutil.Process]:
    """The Ray workers of a stage, by process id."""
    wanted = WORKERS.get(stage)
    return [p for p in of_session(session) if wanted and wanted in title(p) and title(p).startswith("ray::")]


def raylet(session: int) -> list[psutil.Process]:
    """The raylet of the session's node."""
    return [p for p in of_session(session) if title(p).split(" ")[0].endswith("/raylet")]


def busy(session: int) -> list[str]:
    """Titles of the Ray workers that belong to a driver."""
    titles = [title(p) for p in of_session(session)]
    return sorted(t.strip() for t in titles if t.startswith("ray::") and not t.startswith(_QUIET))


def end_session(session: int) -> None:
    """Kills what is left of it."""
    for process in of_session(session):
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
