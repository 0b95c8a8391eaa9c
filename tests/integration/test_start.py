"""An interrupt before a command has anything to clean up, one of a command that keeps nothing to resume, and output
that cannot be written: one line, no traceback. Issue 19, point 11."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from paft_ray.stages.stage_errors import keep_traceback

FOREGROUND = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
IMPORTS = FOREGROUND + "from paft_ray.cli.start import main; main()"
WORKS = (
    FOREGROUND + "import tempfile, time; from paft_ray.cli import main as cli, stage_command\n"
    "def works(*_):\n"
    "    with tempfile.TemporaryDirectory():\n"
    "        print('works', flush=True); time.sleep(60)\n"
    "stage_command.load_config = works\n"
    "cli.main(['run', 'x.yaml'])"
)


def interrupted(code: str, number: int, **environment: str) -> tuple[int, str]:
    """(exit code, stderr) of a program that gets the signal after its first line."""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        process.send_signal(number)
        try:
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
    return process.returncode, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_during_the_imports_is_one_line(tmp_path: Path, number: int, code: int) -> None:
    slow = "import time\nprint('works', flush=True)\ntry: time.sleep(60)\nexcept BaseException: raise ImportError"
    (tmp_path / "typer.py").write_text(slow)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    assert interrupted(IMPORTS, number, PYTHONPATH=path) == (code, "paft: interrupted\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_of_a_command_that_is_not_resumed_cleans_up(tmp_path: Path, number: int, code: int) -> None:
    assert interrupted(WORKS, number, TMPDIR=str(tmp_path)) == (code, "paft: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["--help"], ["run", "jobs/configs/demo.yaml", "--dry-run"]])
def test_output_that_cannot_be_written_is_one_line(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "paft_ray", *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr.startswith("paft: ")
    assert done.stderr.count("\n") == 1


def test_of_errors_that_no_one_foresaw_one_folder_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = [keep_traceback(None, "paft", ValueError(f"error {n}")) for n in range(3)]
    assert [path.parent for path in tmp_path.glob("*/*")] == [Path(kept[-1]).parent]
    assert "error 2" in Path(kept[-1]).read_text()
