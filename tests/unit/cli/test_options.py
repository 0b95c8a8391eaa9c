"""--version, --quiet and --verbose."""

import logging
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from paft_ray import log
from paft_ray.cli.main import main


@pytest.fixture(autouse=True)
def usual_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_shown_from", logging.INFO)


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert (end.value.code, capsys.readouterr().out) == (0, f"paft {version('paft-ray')}\n")


@pytest.mark.parametrize(("option", "level"), [("--quiet", logging.WARNING), ("--verbose", logging.DEBUG)])
def test_an_option_sets_what_the_console_shows(option: str, level: int, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        main(["run", "jobs/configs/demo.yaml", "--dry-run", "--set", f"storage={tmp_path}", option])
    assert end.value.code == 0
    assert log._shown_from == level


def test_a_quiet_command_still_prints_its_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "jobs/configs/demo.yaml", "--dry-run", "--set", f"storage={tmp_path}", "--quiet"])
    assert not re.search(r"^\d\d:\d\d:\d\d ", out := capsys.readouterr().out, re.MULTILINE)
    assert "stages" in out or "training_workers" in out


@pytest.mark.parametrize("command", ["run", "evaluate", "report", "submit", "doctor", "compare", "audit", "export"])
def test_every_command_can_be_quiet(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--quiet" in (out := capsys.readouterr().out)
    assert ("CONFIG|RUN" in out) == (command in ("evaluate", "report"))
