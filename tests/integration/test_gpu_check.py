"""The check on a GPU, with its small models on a CPU: real processes, DeepSpeed, PEFT."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.__main__ import INCOMPLETE, NO_GPU
from tests.gpu.plan import cases
from tests.gpu.processes import run


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.gpu", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        check=False,
        timeout=900,
    )


def result(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("*.json")
    return json.loads(file.read_text())


def test_without_a_gpu_it_says_so_in_one_line_and_writes_nothing(tmp_path: Path) -> None:
    found = check("--out", str(tmp_path / "out"))
    assert found.returncode == NO_GPU
    assert found.stderr == "no GPU on this machine: nothing was checked (--device cpu: the same with small models)\n"
    assert not (tmp_path / "out").exists()


def test_a_case_is_held_to_plain_pytorch_goes_on_and_is_exported(tmp_path: Path) -> None:
    found = check("--device", "cpu", "--only", "lora-zero2", "--out", str(tmp_path))
    assert found.returncode == INCOMPLETE, found.stdout + found.stderr
    rows = result(tmp_path)["rows"]
    asked = {row["name"].split(": ")[1]: row["status"] for row in rows if row["name"].startswith("lora-zero2: ")}
    assert set(asked) == {
        "loss beside plain PyTorch on the CPU",
        "loss after a resume",
        "loss of the exported model",
        "last loss over first",
    }
    assert set(asked.values()) == {"pass"}
    assert {row["status"] for row in rows if not row["name"].startswith("lora-zero2: ")} == {"not run"}


def test_a_case_that_hangs_ends_at_its_limit_and_one_that_dies_says_why(tmp_path: Path) -> None:
    reference = next(case for case in cases("cpu") if case.name == "reference-lora")
    deadline = time.monotonic() + 600
    assert run(replace(reference, limit_s=1), tmp_path, deadline, 1).note == "not done after 1 s"
    died = run(reference, tmp_path, deadline, 1)  # no model was written
    assert died.status == "failed"
    assert died.note.startswith("exit code 1: ")
    assert run(reference, tmp_path, time.monotonic() + 1, 1).status == "not run"


@pytest.mark.slow
def test_everything_passes_on_a_cpu(tmp_path: Path) -> None:
    found = check("--device", "cpu", "--out", str(tmp_path), "--budget-s", "1500")
    assert found.returncode == 0, found.stdout + found.stderr
    told = result(tmp_path)
    assert told["device"] == "cpu"
    assert {row["status"] for row in told["rows"]} == {"pass", "measured"}
