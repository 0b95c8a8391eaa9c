"""The local Ray of a command."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

DEMO = Path("jobs/configs/demo.yaml").resolve()
SHADOWS = ("email", "queue", "random", "json", "logging", "typing", "inspect", "numpy", "yaml", "ray", "secrets")
"""Names that people give a script of their own, and that Python or a library has, too."""


def own_modules(folder: Path, *names: str) -> Path:
    """A folder with modules of the user's own, none of which is meant to be imported."""
    folder.mkdir()
    for name in names:
        (folder / f"{name}.py").write_text("raise ImportError('a script of the user, not a module of Python')\n")
    return folder


def test_a_command_works_beside_ones_own_modules_with_a_long_tmpdir_and_no_home(tmp_path: Path) -> None:
    """All at once, for a Ray takes its time: its daemons, its workers and their sockets, and the token that Ray keeps
    in the home."""
    here, long = own_modules(tmp_path / "here", *SHADOWS), tmp_path / ("long" * 40)
    long.mkdir()
    environment = {**os.environ, "HOME": "/nonexistent", "TMPDIR": str(long)}
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_TMPDIR", "PYTHONSAFEPATH"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "paft_ray", "prepare", str(DEMO), "--set", f"storage={tmp_path}"]
    done = subprocess.run(command, env=environment, cwd=here, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["paft", "paft"], done.stderr
    assert "the home /nonexistent cannot be written: caches are in" in done.stderr
    assert f"Ray's files are in /tmp/paft-{os.getuid()}/ray" in done.stderr
    assert (tmp_path / "demo" / "prepare" / "train.parquet").is_file()


def test_the_console_script_imports_nothing_from_the_working_folder(tmp_path: Path) -> None:
    """`python -m` cannot help it: Python itself imports types and others from there before a program begins."""
    here = own_modules(
        tmp_path / "here", *SHADOWS, "types", "functools", "collections", "contextlib", "enum", "re", "os"
    )
    paft = Path(sys.executable).parent / "paft"
    done = subprocess.run(
        [paft, "run", DEMO, "--dry-run"], cwd=here, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_cluster_that_left_its_address_behind_is_not_joined(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="paft-") as folder:  # short, for Ray puts sockets there
        left = Path(folder) / "ray" / "ray_current_cluster"
        left.parent.mkdir()
        left.write_text("127.0.0.1:1")
        environment = {**os.environ, "RAY_TMPDIR": folder}
        environment.pop("RAY_ADDRESS", None)
        command = [
            sys.executable,
            "-m",
            "paft_ray",
            "prepare",
            "jobs/configs/demo.yaml",
            "--set",
            f"storage={tmp_path}",
        ]
        done = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout
