"""Releases: one tag builds, tests and publishes; nothing in the workflow can be swapped by others."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

WORKFLOW = Path(".github/workflows/release.yml")
JOBS = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]


def test_actions_are_named_by_commit() -> None:
    used = re.findall(r"uses: (.*)", WORKFLOW.read_text(encoding="utf-8"))
    assert len(used) == sum("uses" in step for job in JOBS.values() for step in job["steps"])
    assert [each for each in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", each)] == []


def test_only_what_was_tested_is_published_and_only_for_a_tag() -> None:
    assert (JOBS["test"]["needs"], JOBS["publish"]["needs"]) == ("build", "test")
    assert JOBS["publish"]["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert [name for name, job in JOBS.items() if "permissions" in job] == ["publish"]
    assert JOBS["publish"]["permissions"] == {"id-token": "write"}
    assert not any("run" in step for step in JOBS["publish"]["steps"])
    assert "secrets." not in WORKFLOW.read_text(encoding="utf-8")


def test_the_workflow_runs_scripts_that_exist() -> None:
    runs = [step["run"].split()[1] for job in JOBS.values() for step in job["steps"] if "run" in step]
    assert runs == ["scripts/build.sh", "scripts/test_wheel.sh"]
    assert all(Path(script).is_file() for script in runs)


@pytest.mark.parametrize(
    ("tag", "change", "reason"),
    [
        ("v9.9.9", None, "tag v9.9.9 is not v0.1.0"),
        ("v0.1.0", "CHANGELOG.md", "has no section 0.1.0"),
        ("v0.1.0", "CITATION.cff", "CITATION.cff says version"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused(tmp_path: Path, tag: str, change: str | None, reason: str) -> None:
    for name in ("pyproject.toml", "CITATION.cff", "CHANGELOG.md"):
        shutil.copy(name, tmp_path)
    shutil.copytree("scripts", tmp_path / "scripts")
    if change:
        (tmp_path / change).write_text("version: 7\n")
    command = ["bash", str(tmp_path / "scripts/build.sh"), tag]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert reason in result.stderr
    assert not (tmp_path / "dist").exists()
