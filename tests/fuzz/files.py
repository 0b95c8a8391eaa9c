"""A file of given bytes for targets that read files."""

from __future__ import annotations

import tempfile
from pathlib import Path

_FOLDER = tempfile.TemporaryDirectory(prefix="paft-fuzz-")


def written(name: str, data: bytes) -> str:
    """Path of the file, the same one for every call with this name."""
    path = Path(_FOLDER.name) / name
    path.write_bytes(data)
    return str(path)
