"""What `paft init` writes trains above chance, as it is, and its model can be measured."""

import subprocess
import sys
from pathlib import Path

import pytest

from paft_ray.storage.store import Store

pytestmark = pytest.mark.slow  # a training and two engine starts


def paft(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paft_ray", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800, check=False)


def test_the_example_trains_above_chance_and_is_measured(tmp_path: Path) -> None:
    assert paft(tmp_path, "init", "mine").returncode == 0
    done = paft(tmp_path, "run", "mine/run.yaml")
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    arms = Store(str(tmp_path / "runs/mine")).read_json("report/results.json")["arms"]
    assert arms["paft"]["low"] > arms["base"]["mean"]
    assert arms["paft"]["mean"] > 0.5, "two labels, half of the rows each"

    measured = ("runs/mine:paft", "--task", "mine/task.yaml", "--rows", "12", "--out", "measured")
    done = paft(tmp_path, "robustness", *measured)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert list(Store(str(tmp_path / "measured")).read_json("results.json")["arms"]) == ["mine-paft"]
