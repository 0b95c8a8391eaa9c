"""Which code an installed package is."""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import Distribution
from pathlib import Path

_MADE_ON_INSTALLATION = (".dist-info", ".egg-info", "__pycache__")
"""Ends of folders whose content differs between machines that hold the same code."""
_LINKS = ".pth"
_EDITABLE = "__editable__"
"""Begins the names of what an editable installation adds, besides links."""


def package_sha256(module: str, distribution: Distribution | None) -> str:
    """SHA-256 over paths and contents of every file of the imported module's package, and of whatever else its
    distribution installs into the same place. Bytecode, metadata and what an editable installation adds do not
    count."""
    files = {**_listed(distribution), **_of_package(module)}
    found = hashlib.sha256()
    for name in sorted(files):
        content = hashlib.sha256(files[name].read_bytes()).hexdigest()
        found.update(f"{name}\0{content}\0".encode())
    return found.hexdigest()


def _listed(distribution: Distribution | None) -> dict[str, Path]:
    """Path relative to the place of installation -> file, as the distribution lists them; scripts lie elsewhere."""
    listed = (distribution.files or []) if distribution else []
    files = {path.as_posix(): Path(str(path.locate())) for path in listed if path.parts[0] != ".."}
    return {name: file for name, file in files.items() if _counts(name) and file.is_file()}


def _of_package(module: str) -> dict[str, Path]:
    """Likewise of the outermost package with code that holds the module, or of the module itself: an editable
    installation lists none of them."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        file = getattr(sys.modules.get(".".join(parts[:depth])), "__file__", None)
        if file:
            path = Path(file)
            within = path.parent.rglob("*") if path.stem == "__init__" else [path]
            root = path.parents[depth] if path.stem == "__init__" else path.parents[depth - 1]
            files = {each.relative_to(root).as_posix(): each for each in within if each.is_file()}
            return {name: each for name, each in files.items() if _counts(name)}
    return {}


def _counts(name: str) -> bool:
    *folders, last = name.split("/")
    is_made = any(folder.endswith(_MADE_ON_INSTALLATION) for folder in folders)
    return not (is_made or last.endswith((".pyc", _LINKS)) or last.startswith(_EDITABLE))
