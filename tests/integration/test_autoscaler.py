"""A cluster that has a head alone until somebody asks for more: Ray's own autoscaler, with nodes that are processes of
this machine."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.closed_ray import closed_environment
from tests.support.killing import wait_for
from tests.support.ports import free_ports
from tests.support.small_run import ONE_ARM

BIN = Path(sys.executable).parent
_NOTHING = ("docker", "file_mounts")
_NO_COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "cluster_synced_files",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
    "rsync_exclude",
    "rsync_filter",
)


@pytest.fixture
def at_zero() -> Iterator[dict[str, str]]:
    """The environment of a command that joins a cluster whose head has one CPU; one node of four comes if it is asked
    for."""
    port, dashboard = free_ports(2)
    folder = Path(tempfile.mkdtemp(prefix="paft-scale-", dir="/tmp"))
    environment = closed_environment(RAY_FAKE_CLUSTER="1", AUTOSCALER_UPDATE_INTERVAL_S="1")
    settings = {
        "cluster_name": "paft",
        "max_workers": 1,
        "provider": {
            "type": "fake_multinode",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "gcs_address": f"127.0.0.1:{port}",
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "four": {
                "resources": {"CPU": 4, "object_store_memory": 200_000_000},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 1,
            },
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "auth": {"ssh_user": "nobody", "ssh_private_key": str(folder / "autoscaler.yaml")},  # any file: nobody logs in
        "file_mounts_sync_continuously": False,
        **{name: {} for name in _NOTHING},
        **{name: [] for name in _NO_COMMANDS},
    }
    (folder / "autoscaler.yaml").write_text(json.dumps(settings))
    head = subprocess.Popen(
        [
            str(BIN / "ray"),
            "start",
            "--head",
            "--block",
            "--num-cpus=1",
            f"--port={port}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard}",
            f"--temp-dir={folder}/ray",
            f"--autoscaling-config={folder}/autoscaler.yaml",
        ],
        env=environment,
        stdout=(folder / "head.log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_for(lambda: "Ray runtime started" in (folder / "head.log").read_text(), "the head", timeout_s=60)
        yield {**environment, "RAY_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        own = [process for process in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(_command(process))]
        for process in [*psutil.Process(head.pid).children(recursive=True), *own]:
            if process.is_running():
                process.kill()
        head.kill()
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _command(process: psutil.Process) -> list[str]:
    return process.info["cmdline"] or []


def paft(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paft_ray", *arguments], env=environment, capture_output=True, text=True, timeout=400
    )


@pytest.mark.slow
def test_a_run_asks_for_the_nodes_that_it_needs_and_waits_for_them(
    at_zero: dict[str, str], tiny_model: str, tmp_path: Path
) -> None:
    settings = [
        *ONE_ARM,
        "name=scaled",
        f"storage={tmp_path}",
        f"model.id={tiny_model}",
        "train.num_steps=2",
        "train.num_workers=2",
        "train.threads_per_worker=1",
        "train.precision=fp32",
    ]
    options = ["jobs/configs/demo.yaml", *(part for setting in settings for part in ("--set", setting))]
    assert paft(at_zero, "prepare", *options).returncode == 0
    refused = paft(at_zero, "synthesize", *options)
    assert refused.returncode == 2
    assert "allowed are 0 (one is left for Ray Data)" in refused.stderr
    assert "--wait-resources 30m waits for nodes to come" in refused.stderr
    made = paft(at_zero, "synthesize", *options, "--wait-resources", "3m")
    assert made.returncode == 0, made.stderr
    assert "[synthesize] waiting for nodes, 3 min at most: engine.replicas x" in made.stdout
    trained = paft(at_zero, "train", *options, "--wait-resources", "3m")
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "scaled/train/manifest.json").exists()
