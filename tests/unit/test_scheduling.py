"""Helpers give way, and who computes is an ordinary process again."""

import os
import subprocess
import sys

import pytest

from paft_ray.scheduling import as_computing, as_helper

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux only")


def test_what_a_helper_starts_is_a_helper_until_it_computes() -> None:
    before = os.sched_getscheduler(0)
    try:
        as_helper()
        assert os.sched_getscheduler(0) == os.SCHED_BATCH
        child = "import os; from paft_ray.scheduling import as_computing; print(os.sched_getscheduler(0)); as_computing(); print(os.sched_getscheduler(0))"
        shown = subprocess.run([sys.executable, "-c", child], check=True, capture_output=True, text=True).stdout.split()
        assert shown == [str(os.SCHED_BATCH), str(os.SCHED_OTHER)]
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))


def test_a_container_that_forbids_it_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    as_helper()
    as_computing()
