"""Temporary folders of a node that carry their owner's name, so that its next attempt finds and removes what a killed
one left."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path


def owned_prefix(kind: str, owner: str) -> str:
    """How the names of an owner's folders begin."""
    return f"{kind}-{hashlib.sha256(owner.encode()).hexdigest()[:12]}-"


def remove_left(parent: str, prefix: str) -> None:
    """Removes the folders in `parent` whose names begin so."""
    for left in Path(parent).glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)


def node_folder() -> str:
    """The temporary folder of what Ray starts on this node."""
    return os.environ.get("TMPDIR") or tempfile.gettempdir()


def only_folder(kind: str, owner: str) -> str:
    """Path of a new folder in the temporary folder, in place of those that the owner had there."""
    prefix = owned_prefix(kind, owner)
    remove_left(tempfile.gettempdir(), prefix)
    return tempfile.mkdtemp(prefix=prefix)
