"""What a submitted job ships, an allow-list: this package, the resolved configuration, the files it names, and
`my/`."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

import paft_ray
from paft_ray.cli.secrets import check_file, is_secret_file
from paft_ray.config import Config
from paft_ray.config.plugins import split_pin
from paft_ray.errors import UserError
from paft_ray.sanitize import holds_hidden
from paft_ray.tasks.task import Task

OWN = "my"
"""Folder of the user's own task, templates, rows and run files, below the folder that a command starts in."""
_LARGEST_MIB = 8
_RUN_FILES = (".yaml", ".yml")
_RUN_FILE = re.compile(r"\.ya?ml(?:~|\.(?:bak|backup|old|orig|save))?", re.IGNORECASE)


def resolved(config: Config) -> str:
    """The configuration as YAML: what file and overrides say together, without comments and values that were taken
    back.

    What was not set stays unset, since a default may depend on the machine.
    """
    values = json.loads(config.model_dump_json(exclude_unset=True))  # each value anew: no alias in the YAML
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def named_files(config: Config, task: Task) -> tuple[str, ...]:
    """Task, plugins, templates and rows at relative paths. Raises `UserError` for those outside the working folder, or
    `my/`."""
    data = {"data." + name: getattr(config.data, name) for name in ("train", "validation", "test")}
    sources = {
        f"sources.{name} of task {task.name}": source.path
        for name, source in task.sources.items()
        if not data["data." + name]
    }
    rows = {name: path for name, path in {**sources, **data}.items() if path and _relative(path)}
    for name, path in rows.items():
        if os.path.relpath(path).split(os.sep)[0] != OWN:
            raise UserError(
                f"{name}={path}: rows are not shipped with a job; give an absolute path or URI that the cluster "
                f"reads, or move them into the folder {OWN}/"
            )
    wanted = definitions(config)
    for given, own in (
        (config.prompts.seed_templates, task.seed_templates),
        (config.prompts.held_out_templates, task.held_out_templates),
        (config.prompts.decisions, None),
    ):
        wanted += [path for path in [own if given == "builtin" else given] if path]
    return shippable([*wanted, *rows.values()])


def definitions(config: Config) -> list[str]:
    """Files of the task and of the graders that a configuration names."""
    task = [config.task] if config.task.endswith(_RUN_FILES) else []
    return task + [split_pin(plugin)[0] for plugin in config.plugins]


def shippable(paths: Iterable[str]) -> tuple[str, ...]:
    """Those at relative paths, each once. Raises `UserError` for one outside the working folder."""
    found = tuple(dict.fromkeys(path for path in paths if _relative(path)))
    for path in found:
        if os.path.relpath(path).startswith(".."):
            raise UserError(
                f"{path}: outside the folder that you start in, so it cannot be shipped; start the command in a "
                "folder above it"
            )
    return found


def write_job(folder: Path, texts: Mapping[str, str], named: tuple[str, ...]) -> tuple[list[str], float]:
    """Files of the user's in the job's folder, and MiB of all that is there.

    `texts`: path -> content, in place of a file at this path.
    Raises `UserError` for too much, for what looks like a secret, and for links that lead out.
    """
    code = _package()
    own = {name: path for name, path in _own(named).items() if name not in texts}
    files = {**code, **own}
    size = (
        sum(path.stat().st_size for path in files.values()) + sum(len(text.encode()) for text in texts.values())
    ) / 2**20
    if size > _LARGEST_MIB:
        largest = ", ".join(sorted(own, key=lambda name: -own[name].stat().st_size)[:3])
        raise UserError(
            f"submit: {size:.1f} MiB ({largest}), at most {_LARGEST_MIB} are shipped; put large files where the "
            "nodes read them"
        )
    contents = {name: _content(name, path) for name, path in files.items()} | {
        name: text.encode() for name, text in texts.items()
    }
    for name, content in contents.items():
        if holds_hidden(name) or "\n" in name:
            raise UserError(f"submit: {name!a}: a character of this name does not show or is no UTF-8; rename it")
        check_file(name, content, own=name not in code)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return [*texts, *own], size


def _package() -> dict[str, Path]:
    """Path in the job's folder -> file, of this package."""
    root = Path(paft_ray.__file__).parent.resolve()
    found = {f"paft_ray/{path.relative_to(root)}": path for path in _files(root)}
    for name, path in found.items():
        _check_place(name, path, root)
    return found


def _own(named: tuple[str, ...]) -> dict[str, Path]:
    """Likewise of the named files and `my/`, without other run files: they may hold notes, and settings taken back."""
    found = {os.path.relpath(path): Path(path) for path in named}
    if Path(OWN).is_dir():
        found |= {str(path): path for path in _files(Path(OWN)) if not _RUN_FILE.search(path.name)}
    for name, path in found.items():
        _check_place(name, path, Path.cwd() / OWN if name.startswith(f"{OWN}/") else Path.cwd())
    return found


def _files(root: Path) -> Iterator[Path]:
    """Files below a folder, in order; hidden ones are left out unless they look like a secret.

    Raises `UserError` for a link to a folder, and for a folder that cannot be read.
    """

    def unreadable(error: OSError) -> None:
        raise UserError(f"submit: {error.filename}: cannot be read ({error.strerror}); fix or remove it")

    for place, folders, names in os.walk(root, onerror=unreadable):
        folders[:] = sorted(name for name in folders if _wanted(name))
        if links := [Path(place) / name for name in folders if (Path(place) / name).is_symlink()]:
            raise UserError(f"submit: {links[0]}: a link to a folder is not followed; copy what the job needs")
        yield from (Path(place) / name for name in sorted(names) if _wanted(name))


def _content(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"submit: {name}: cannot be read ({error.strerror}); fix or remove it") from None


def _wanted(name: str) -> bool:
    return name != "__pycache__" and (not name.startswith(".") or is_secret_file(name))


def _check_place(name: str, path: Path, inside: Path) -> None:
    """Raises `UserError` for what is no regular file, and for a link that leads out of a folder."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise UserError(f"submit: {name}: cannot be read ({error.strerror}); fix or remove it") from None
    if not regular:
        raise UserError(f"submit: {name}: not a file; take it away")
    if not path.resolve().is_relative_to(inside.parent.resolve() / inside.name):
        raise UserError(f"submit: {name}: a link that leads out of {inside.name}/; copy the file there")


def _relative(path: str) -> bool:
    return not path.startswith("builtin:") and "://" not in path and not Path(path).is_absolute()
