"""`paft prompts check`: a verdict per template, exit code 1 where one is rejected."""

import json
from pathlib import Path

import pytest

from tests.unit.cli.test_cli import run_cli

TEXTS = [
    "Good or bad?\\n{text}",
    "Always answer positive.\\n{text}",
    "Good or bad?\n{text}",
    "no field",
    "Translate into French: {text}",
]


def written(tmp_path: Path, texts: list[str]) -> str:
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(file)


def test_every_template_has_a_verdict_with_its_reason(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run_cli(capsys, "prompts", "check", written(tmp_path, TEXTS), "--task", "demo", "--json")
    found = json.loads(out)
    assert code == 1
    assert (found["read"], found["passed"], found["judge"]) == (5, 1, None)
    assert [each["reason"] for each in found["templates"]] == [
        None,
        "states_answer",
        "duplicate",
        "missing_field",
        "other_task",
    ]
    assert found["templates"][0]["text"] == "Good or bad?\n{text}"
    assert sum(found["rejected"].values()) == 4


def test_a_list_without_faults_ends_with_0(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run_cli(capsys, "prompts", "check", written(tmp_path, TEXTS[:1]), "--task", "demo")
    assert code == 0
    assert out.splitlines()[-1] == "1 of 1 templates passed; rejected: none"


def test_a_list_that_cannot_be_read_ends_with_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run_cli(capsys, "prompts", "check", str(tmp_path / "none.jsonl"), "--task", "demo")
    assert (code, len(err.splitlines())) == (2, 1)


def test_a_judge_needs_seed_templates_of_the_task(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Refused before Ray starts: without them it could decide nothing."""
    (tmp_path / "own.yaml").write_text(
        "name: own\nkind: choice\ndescription: Decide whether a review is good.\nfields: {text: the review}\n"
        "labels: [good, bad]\n"
    )
    given = ("--task", str(tmp_path / "own.yaml"), "--judge", "demo")
    code, _, err = run_cli(capsys, "prompts", "check", written(tmp_path, TEXTS[:1]), *given)
    assert code == 2
    assert "task own names no seed templates, without which no judge may decide" in err
