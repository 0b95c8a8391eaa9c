"""What must not outlive a command: processes, placement groups, shared memory, temporary files."""

from __future__ import annotations

import os
import re
from pathlib import Path

import psutil

from tests.chaos.cluster import Cluster
from tests.chaos.processes import busy, end_sessions, of_sessions, title, wait_until_none

_GRACE_S = 60
_SHARED = Path("/dev/shm")
_OF_LIBRARIES = re.compile(
    r"vllm_dist_[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|pymp-\w+|torchinductor_\w+"
)
"""Rendezvous files, sockets and compiled kernels that vLLM and torch leave whenever an engine ends, killed or not: a
few empty files per engine."""
_SEMAPHORE = re.compile(r"sem\.mp-\w+")
"""Locks (32 bytes) of vLLM's engine process and its progress bars; Ray kills that process together with Python's own
cleaner of them. Ours has none."""
_LEFT_IN_A_RUN = re.compile(r"\.part$|^merged-|^merging-")


def shared_memory() -> set[str]:
    """Segments of the whole machine."""
    return {entry.name for entry in _SHARED.iterdir() if not _SEMAPHORE.fullmatch(entry.name)}


def after_end(session: int, cluster: Cluster | None) -> list[str]:
    """What a command that has ended left running: its own processes, its workers on a cluster that goes on, placement
    groups, CPUs in use."""
    found = [f"process {t}" for t in wait_until_none(lambda: [title(p) for p in of_sessions(session)], _GRACE_S)]
    end_sessions(session)
    if cluster is None:
        return found
    found += [f"worker {t}" for t in wait_until_none(lambda: busy(cluster.sessions), _GRACE_S)]
    return found + wait_until_none(_reserved, _GRACE_S)


def _reserved() -> list[str]:
    """Placement groups and CPUs that are not free; this process has joined the cluster."""
    import ray
    from ray.util import placement_group_table

    groups = [
        f"placement group {g['placement_group_id']}"
        for g in placement_group_table().values()
        if g["state"] != "REMOVED"
    ]
    total, free = ray.cluster_resources().get("CPU", 0), ray.available_resources().get("CPU", 0)
    return groups + ([f"{total - free:g} CPUs"] if free < total else [])


def files(run: Path, scratch: Path, segments: set[str]) -> list[str]:
    """What is left of a finished run: halves and merged weights in its folder, temporary files, shared memory beyond
    `segments` that nothing holds."""
    parts = [f"file {path.relative_to(run)}" for path in run.rglob("*") if _LEFT_IN_A_RUN.search(path.name)]
    temporary = [
        f"temporary {path.name}" for path in (scratch / "tmp").iterdir() if not _OF_LIBRARIES.fullmatch(path.name)
    ]
    shared = wait_until_none(
        lambda: sorted((new := shared_memory() - segments) - _held(new)), _GRACE_S
    )  # of other programs, it goes within seconds
    return parts + temporary + [f"shared memory {name}" for name in shared]


def _held(names: set[str]) -> set[str]:
    """Those that a living process maps or has open."""
    held: set[str] = set()
    for process in psutil.process_iter() if names else ():
        try:
            text = Path(f"/proc/{process.pid}/maps").read_text() + "\n".join(
                os.readlink(fd) for fd in Path(f"/proc/{process.pid}/fd").iterdir()
            )
        except OSError:
            continue
        held |= {name for name in names if f"{_SHARED}/{name}" in text}
    return held
