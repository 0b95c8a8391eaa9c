"""What a submitted job ships, an allow-list: this package, the resolved configuration, the files that it names, and the folder `my/`."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

import paft_ray
from paft_ray.cli.secrets import check_file, is_secret_file
from paft_ray.config import Config
from paft_ray.errors import UserError
from paft_ray.tasks.task import Task

OWN = "my"
"""Folder of the user's own task, templates, rows and run files, below the folder that a command starts in."""
_LARGEST_MIB = 8
_RUN_FILES = (".yaml", ".yml")


def resolved(config: Config) -> str:
    """The configuration as YAML: what file and overrides say together, without comments and without values that were taken back.

    What was not set stays unset, since a default may depend on the machine.
    """
    values = json.loads(config.model_dump_json(exclude_unset=True))  # no value twice by reference, which YAML would write as an alias
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def named_files(config: Config, task: Task) -> tuple[str, ...]:
    """Task, templates and rows at relative paths. Raises `UserError` for those outside the working folder, and for rows outside `my/`."""
    data = {"data." + name: getattr(config.data, name) for name in ("train", "validation", "test")}
    sources = {f"sources.{name} of task {task.name}": source.path for name, source in task.sources.items() if not data["data." + name]}
    rows = {name: path for name, path in {**sources, **data}.items() if path and _relative(path)}
    for name, path in rows.items():
        if Path(os.path.relpath(path)).parts[0] != OWN:
            raise UserError(
                f"{name}={path}: rows are not shipped with a job; give an absolute path or URI that the cluster reads, or move them into the folder {OWN}/"
            )
    wanted = [config.task] if config.task.endswith(_RUN_FILES) else []
    for given, own in ((config.prompts.seed_templates, task.seed_templates), (config.prompts.held_out_templates, task.held_out_templates)):
        wanted += [path for path in [own if given == "builtin" else given] if path]
    found = tuple(dict.fromkeys(path for path in [*wanted, *rows.values()] if _relative(path)))
    for path in found:
        if os.path.relpath(path).startswith(".."):
            raise UserError(f"{path}: outside the folder that you start in, so it cannot be shipped; start paft submit in a folder above it")
    return found


def write_job(folder: Path, texts: Mapping[str, str], named: tuple[str, ...]) -> tuple[list[str], float]:
    """Files of the user's in the job's folder, and MiB of all that is there. `texts`: path -> content, in place of a file at this path.

    Raises `UserError` for too much, for what looks like a secret, and for links that lead out.
    """
    package = Path(paft_ray.__file__).parent
    code = {f"paft_ray/{path.relative_to(package)}": path for path in _files(package, follow=False)}
    own = {str(path): path for path in _files(Path(OWN), follow=True)} if Path(OWN).is_dir() else {}
    kept = {os.path.relpath(path): Path(path) for path in named}
    # A run file is shipped resolved or not at all: others hold comments, and settings that were taken back.
    kept |= {name: path for name, path in own.items() if path.suffix not in _RUN_FILES}
    files = {**code, **{name: path for name, path in kept.items() if name not in texts}}
    for name, path in kept.items():
        _check_place(name, path)
    size = (sum(path.stat().st_size for path in files.values()) + sum(len(text.encode()) for text in texts.values())) / 2**20
    users = [*texts, *(name for name in kept if name not in texts)]
    if size > _LARGEST_MIB:
        shown = ", ".join(sorted(kept, key=lambda name: -kept[name].stat().st_size)[:3])
        raise UserError(
            f"submit: {len(files)} files hold {size:.1f} MiB ({shown}), at most {_LARGEST_MIB} are shipped; put large files where the nodes read them"
        )
    contents = {name: path.read_bytes() for name, path in files.items()} | {name: text.encode() for name, text in texts.items()}
    for name, content in contents.items():
        check_file(name, content, own=name not in code)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return users, size


def _files(root: Path, *, follow: bool) -> Iterator[Path]:
    """Files below a folder, in order; hidden ones are left out unless they look like a secret. A folder behind a link is not walked into.

    `follow`: raises `UserError` for such a folder, since someone may count on it.
    """
    for place, folders, names in os.walk(root):
        for name in [name for name in folders if (Path(place) / name).is_symlink()] if follow else ():
            raise UserError(f"submit: {Path(place) / name}: a link to a folder is not followed; copy what the job needs")
        folders[:] = sorted(name for name in folders if _wanted(name))
        yield from (Path(place) / name for name in sorted(names) if _wanted(name))


def _wanted(name: str) -> bool:
    return name != "__pycache__" and (not name.startswith(".") or is_secret_file(name))


def _check_place(name: str, path: Path) -> None:
    """Raises `UserError` for what is no regular file, and for a link that leads out of the working folder, or out of `my/`."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise UserError(f"submit: {name}: cannot be read ({error.strerror}); mend or take it away") from None
    if not regular:
        raise UserError(f"submit: {name}: not a file; take it away")
    inside = Path.cwd().resolve() / (OWN if Path(name).parts[0] == OWN else "")
    if not path.resolve().is_relative_to(inside):
        raise UserError(f"submit: {name}: a link that leads out of {inside.name}/; copy the file there")


def _relative(path: str) -> bool:
    return not path.startswith("builtin:") and "://" not in path and not Path(path).is_absolute()
