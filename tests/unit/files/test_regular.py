"""A file that a user names is opened in one way: regular, bounded, without waiting."""

import os
import socket
from functools import partial
from pathlib import Path

import pytest

from paft_ray.config import load_config
from paft_ray.errors import UserError
from paft_ray.files.regular import read_regular
from paft_ray.prompts.imports import import_templates
from paft_ray.prompts.prompt_set import read_templates
from paft_ray.storage.outputs import fetch_verified, file_digest
from paft_ray.storage.store import Store
from paft_ray.tasks.readers import read_rows
from paft_ray.tasks.task import load_task

READERS = {
    "templates.jsonl": read_templates,
    "templates.parquet": read_templates,
    "templates.txt": lambda path: import_templates([path], load_task("demo"), 100),
    "templates.json": lambda path: import_templates([path], load_task("demo"), 100),
    "config.yaml": load_config,
    "task.yaml": load_task,
    "rows.jsonl": lambda path: list(read_rows(path)),
    "rows.csv": lambda path: list(read_rows(path)),
    "rows.parquet": lambda path: list(read_rows(path)),
}


def of_kind(kind: str, path: Path) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(f"{path}.pipe")
        path.symlink_to(f"{path}.pipe")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        socket.socket(socket.AF_UNIX).bind(str(path))


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device", "folder", "socket"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_regular_file_is_refused_at_once(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    of_kind(kind, Path(name))
    with pytest.raises(UserError, match=r"not a regular file|no such file|no such task|cannot be read|is a directory"):
        READERS[name](name)


@pytest.mark.timeout(30)
def test_a_pipe_in_a_run_is_refused_at_once(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "x.json")
    for read in (run.read_bytes, run.read_json, run.read_table, partial(file_digest, run)):
        with pytest.raises(UserError, match=r"x\.json is not a regular file"):
            read("folder/x.json")
    with pytest.raises(UserError, match=r"x\.json is a link or a special file"):
        fetch_verified(run, "folder", {"x.json": ""}, tmp_path / "out")


def test_a_file_is_read_to_its_limit_and_not_beyond(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 10)
    assert read_regular(path, largest=10) == b"x" * 10
    with pytest.raises(ValueError, match="larger than 9 bytes"):
        read_regular(path, largest=9)
