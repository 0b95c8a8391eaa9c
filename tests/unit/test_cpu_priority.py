"""Cores are those that the process may use; helpers give way, and who computes is an ordinary process again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paft_ray.cli.resources import local_resources
from paft_ray.cpu_priority import as_computing, as_helper, usable_cpus

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux only")


def test_what_a_helper_starts_is_a_helper_until_it_computes() -> None:
    before = os.sched_getscheduler(0)
    try:
        as_helper()
        assert os.sched_getscheduler(0) == os.SCHED_BATCH
        child = (
            "import os; from paft_ray.cpu_priority import as_computing; print(os.sched_getscheduler(0)); "
            "as_computing(); print(os.sched_getscheduler(0))"
        )
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


def quota(tmp_path: Path, own: str, files: dict[str, str]) -> int:
    """Usable cores of a process on a machine of 64 with these files below the mount of cgroups."""
    for name, content in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(content)
    (tmp_path / "own").write_text(own)
    return usable_cpus(tmp_path / "fs", tmp_path / "own")


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
        ("0::/\n", {"cpu.max": "150000 50000\n"}, 3),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/slice/job/step\n", {"slice/cpu.max": "400000 100000\n", "slice/job/step/cpu.max": "max 100000\n"}, 4),
        ("0::/seen/from/the/host\n", {"cpu.max": "300000 100000\n"}, 3),
        ("4:memory:/x\n3:cpu,cpuacct:/a\n0::/\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "200000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 2),  # noqa: E501
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ("1:cpu:/job\n", {"cpu/job/cpu.cfs_quota_us": "500000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, 5),
        ("2:cpuset:/\n1:cpuacct:/\n", {"cpuset/cpu.cfs_quota_us": "100000", "cpuset/cpu.cfs_period_us": "100000"}, 64),
        ("0::/\n", {"cpu.max": "what is this\n"}, 64),
        ("", {"cpu.max": "100000 100000\n"}, 64),
    ],
)  # fmt: skip
def test_a_quota_of_a_container_bounds_the_cores(
    own: str, files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert quota(tmp_path, own, files) == cores


def test_the_cores_of_a_pinned_process_are_those_it_is_pinned_to(tmp_path: Path) -> None:
    child = "from paft_ray.cpu_priority import usable_cpus; print(usable_cpus())"
    pinned = subprocess.run(
        ["taskset", "-c", "0", sys.executable, "-c", child], check=True, capture_output=True, text=True
    )
    assert pinned.stdout.strip() == "1"
    assert quota(tmp_path, "0::/\n", {"cpu.max": "max 100000"}) == len(os.sched_getaffinity(0))


def test_a_local_ray_gets_the_usable_cores_and_at_least_four_logical_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 256)
    for usable, logical in ((1, 4), (6, 6)):
        monkeypatch.setattr("paft_ray.cli.resources.usable_cpus", lambda usable=usable: usable)
        assert local_resources()["CPU"] == logical
