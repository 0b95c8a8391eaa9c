"""A worked example of docs/extending.md in a real run: its file judges the answers, and goes where they are judged."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from paft_ray.storage.store import Store
from tests.support.plugin_run import PLUGIN, judged, write_plugin_run

PAFT = Path(sys.executable).parent / "paft"


def paft(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(PAFT), *arguments], cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow  # nearly five minutes on a slow machine; unit tests judge by a file, too
def test_a_run_is_judged_by_the_file_that_its_configuration_names(tmp_path: Path, demo_model: str) -> None:
    write_plugin_run(tmp_path)
    plugin, run = tmp_path / "my/contains_all.py", Store(f"{tmp_path}/runs/letters")
    plugin.write_text(PLUGIN.read_text().replace("return float(all(", "raise KeyError('odd') or float(all("))
    broken = paft(tmp_path, "run", "my/run.yaml")
    assert broken.returncode == 2, (broken.stdout + broken.stderr)[-4000:]
    assert "grader contains_all of my/contains_all.py: score(" in broken.stderr.splitlines()[-1]
    assert "raised KeyError: 'odd'" in broken.stderr.splitlines()[-1]

    plugin.write_bytes(PLUGIN.read_bytes())
    done = paft(tmp_path, "run", "my/run.yaml")
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    manifest, answers = run.read_json("evaluate/manifest.json"), judged(run)
    assert (manifest["num_kept"], manifest["engine_starts"]) == (len(answers), 0), "no answer is asked for again"
    assert all(said == found for said, found in answers)
    assert {said for said, _ in answers} == {True, False}
    sha256 = hashlib.sha256(PLUGIN.read_bytes()).hexdigest()
    assert manifest["key"]["grader"] == {"sha256": sha256}
    assert "grader" not in run.read_json("train/manifest.json")["key"]

    files = ("--templates", "my/templates.jsonl", "--test", "my/test.jsonl", "--out", "own")
    asks = paft(tmp_path, "evaluate", "runs/letters", *files)
    assert (asks.returncode, asks.stderr.count("\n")) == (2, 1)
    assert f"--plugins FILE: my/contains_all.py ({sha256[:16]}" in asks.stderr
    plugin.rename(tmp_path / "moved.py")
    again = paft(tmp_path, "evaluate", "runs/letters", *files, "--plugins", "moved.py")
    assert again.returncode == 0, (again.stdout + again.stderr)[-4000:]
    assert (tmp_path / "own/results.json").is_file()
