"""Graders of third parties: in files that the user's own configuration names, and in installed packages.

A run, a task and a template name a grader by its type alone: neither a path nor a module in them is ever imported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from traceback import extract_tb
from typing import Any

from paft_ray.compat.source_module import run_source
from paft_ray.config.plugins import pinned, split_pin
from paft_ray.errors import UserError, one_line
from paft_ray.files.regular import read_regular
from paft_ray.tasks.graders.package_files import package_sha256
from paft_ray.tasks.graders.registry import GRADERS
from paft_ray.tasks.graders.time_limit import time_limit

GROUP = "paft_ray.graders"
"""Group of the entry points of installed packages: type of a grader = module:class."""
_TABLE = "GRADERS"
_LARGEST = 2**20
_LOAD_S = 120.0

Maker = Callable[..., Any]
"""Makes a grader from its settings, and the task's `labels` where it has some."""


@dataclass(frozen=True, kw_only=True)
class PluginFile:
    """A file of graders, with its content: it travels with a task to nodes that do not have the file."""

    path: str
    """As it was given."""
    sha256: str
    """Of the content, in hex digits."""
    source: bytes = field(repr=False)

    @property
    def pinned(self) -> str:
        """Path and hash, as a configuration names them."""
        return pinned(self.path, self.sha256)


@dataclass(frozen=True, kw_only=True)
class Found:
    """Where the grader of a type comes from."""

    maker: Maker
    origin: str
    """Names file or package in messages."""
    identity: Mapping[str, str]
    """The part of a stage's key that says which code it was."""


def read_plugin(given: str) -> PluginFile:
    """The file of a plugin, not loaded. Raises `UserError` where it cannot be read, or its content is not that of the
    hash that was given with it."""
    path, wanted = split_pin(given)
    try:
        source = read_regular(path, largest=_LARGEST)
    except (OSError, ValueError) as error:
        raise UserError(f"plugin {path}: cannot be read ({one_line(error)}); give the path of a Python file") from None
    found = hashlib.sha256(source).hexdigest()
    if wanted not in (None, found):
        raise UserError(
            f"plugin {path}: its SHA-256 is {found[:16]}…, {wanted[:16]}… is asked for; restore the file, or take the "
            "hash away to use it as it is now"
        )
    return PluginFile(path=path, sha256=found, source=source)


def find(kind: str, plugins: Sequence[PluginFile]) -> Found | None:
    """Where the grader of this type comes from, None where nothing has it. Raises `UserError` for a file or package
    that cannot be loaded, and for a type that several have."""
    files = [
        Found(maker=makers[kind], origin=plugin.path, identity={"sha256": plugin.sha256})
        for plugin in plugins
        if kind in (makers := _makers(plugin))
    ]
    installed = list(entry_points(group=GROUP, name=kind))
    if len(files) + len(installed) > 1:
        origins = ", ".join([*(each.origin for each in files), *(entry.value for entry in installed)])
        raise UserError(f"grader {kind}: several have this name ({origins}); rename one, or take it away")
    return next(iter(files), None) or next((_installed(entry) for entry in installed), None)


@lru_cache(maxsize=16)
def _makers(plugin: PluginFile) -> Mapping[str, Maker]:
    """The graders of a file, which is run once in a process. Raises `UserError`."""
    name = f"paft_ray_plugin_{plugin.sha256[:16]}"
    try:
        with time_limit(_LOAD_S):
            module = run_source(name, plugin.source, plugin.path)  # named by the user's own configuration
    except (Exception, SystemExit) as error:
        raise _unloadable(f"plugin {plugin.path}{_line(plugin, error)}", error) from None
    makers = getattr(module, _TABLE, None)
    if not isinstance(makers, dict) or not all(isinstance(k, str) and callable(v) for k, v in makers.items()):
        raise UserError(
            f"plugin {plugin.path}: names no graders; write {_TABLE} = {{'my_type': MyGrader}} at its end (see "
            "docs/extending.md)"
        )
    if taken := sorted(set(makers) & set(GRADERS)):
        raise UserError(f"plugin {plugin.path}: {taken[0]} is a grader of this package; give yours another name")
    return makers


def _installed(entry: EntryPoint) -> Found:
    """The grader of an installed package. Raises `UserError` where it cannot be imported."""
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
    try:
        with time_limit(_LOAD_S):
            maker = entry.load()
    except (Exception, SystemExit) as error:
        raise _unloadable(f"grader {entry.name} of package {package}", error) from None
    identity = {"package": package, "sha256": package_sha256(entry.module, entry.dist)}
    return Found(maker=maker, origin=f"package {package}", identity=identity)


def _unloadable(what: str, error: BaseException) -> UserError:
    return UserError(f"{what}: cannot be loaded ({type(error).__name__}: {one_line(error)[:200]}); fix it")


def _line(plugin: PluginFile, error: BaseException) -> str:
    """`, line 3` where the line of the file is known that an error comes from."""
    frames = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == plugin.path]
    lines = [*frames, *([error.lineno] if isinstance(error, SyntaxError) else [])]
    return f", line {lines[-1]}" if lines else ""
