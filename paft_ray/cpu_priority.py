"""The CPUs of one machine (Linux): how many this process may use, and who waits for whom on them, helpers for those
that compute.

Ray's daemons and idle processes wake hundreds of times a second. Each time one takes a CPU from a computing thread, all
threads that compute with it wait. Under the policy of batch work they run in the gaps instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cpus(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUPS) -> int:
    """Whole cores that this process may use, at least 1: those it is pinned to (taskset, SLURM), or the quota of its
    cgroups (containers) where that is less.

    `cgroups`: where they are mounted; `own`: the file that names those of this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_quotas(cgroups, own)])))


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """Cores of every quota that holds: a process is bound by its own cgroup and by all above it. Version 2 is one tree,
    version 1 one per controller."""
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in [cgroups / controllers, cgroups / "cpu"] if controllers else [cgroups, cgroups / "unified"]:
            inside = mount / path.strip("/")  # a container may see its own cgroup as the root of the mount
            for folder in [inside, *inside.parents[: len(inside.parts) - len(mount.parts)], mount]:
                yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    """Cores that the cgroup may use in each period; nothing where it is not bound."""
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    with suppress(ValueError, ZeroDivisionError):  # `max`
        if int(quota) > 0:  # -1: no limit
            yield int(quota) / int(period)


def _text(file: Path) -> str:
    """Nothing where the system has no such file."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def as_helper() -> None:
    """This thread, and what it starts, takes no CPU from a running process when it wakes."""
    _set("SCHED_BATCH")


def as_computing() -> None:
    """This thread, and what it starts, is an ordinary one again."""
    _set("SCHED_OTHER")


def _set(policy: str) -> None:
    if hasattr(os, "sched_setscheduler"):
        with suppress(OSError):  # some containers forbid it
            os.sched_setscheduler(0, getattr(os, policy), os.sched_param(0))
