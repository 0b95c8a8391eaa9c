"""Who waits for whom on the CPUs of one machine (Linux): helpers for those that compute.

Ray's daemons and idle processes wake hundreds of times a second. Each time one takes a CPU from a computing thread, all threads that compute with it wait.
Under the policy of batch work they run in the gaps instead.
"""

from __future__ import annotations

import os
from contextlib import suppress


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
