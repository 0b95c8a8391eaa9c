"""SHA-256 of large files, computed once: a cache on this machine remembers the digest while a file has not changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

_SETTLED_S = 2.0
"""A file that changed more recently may change again within one tick of its file system's clock, unseen: its digest is
not remembered."""


def cache_folder() -> Path:
    """The folder in which paft keeps what it can make again: `$PAFT_CACHE`, else `~/.cache/paft_ray`."""
    return Path(os.environ.get("PAFT_CACHE", "~/.cache/paft_ray")).expanduser()


def file_digest(file: Path) -> str:
    """SHA-256 of a complete file, 64 hex digits; read only where the cache has no digest of it as it is now.

    "As it is": same resolved path, size, inode, and nanoseconds of modification and of the last change of its inode. A
    cache that is damaged, or that cannot be written, costs another read and nothing else. Raises `OSError`.
    """
    path = file.resolve(strict=True)
    entry = cache_folder() / "digests" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()}.json"
    with path.open("rb") as stream:
        state = _state(path, os.fstat(stream.fileno()))
        if (known := _remembered(entry, state)) is not None:
            return known
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        after = os.fstat(stream.fileno())
    changed_s = max(after.st_mtime_ns, after.st_ctime_ns) / 1e9
    if _state(path, after) == state and abs(time.time() - changed_s) > _SETTLED_S:
        _remember(entry, state, digest)
    return digest


def _state(path: Path, status: os.stat_result) -> dict[str, Any]:
    """What a change of the file changes."""
    return {
        "path": os.fsencode(path).hex(),
        "size": status.st_size,
        "inode": status.st_ino,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
    }


def _remembered(entry: Path, state: dict[str, Any]) -> str | None:
    """The digest in a cache file, None where there is none of this state or the file is damaged."""
    try:
        if not stat.S_ISREG(entry.stat().st_mode):
            return None
        found = json.loads(entry.read_bytes())
        digest = found["sha256"]
        intact = re.fullmatch(r"[0-9a-f]{64}", digest) and found["check"] == _check(state, digest)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return digest if intact else None


def _remember(entry: Path, state: dict[str, Any], digest: str) -> None:
    """Writes a cache file completely or not at all, whoever else writes it at the same time."""
    part = entry.with_name(f"{entry.name}.{uuid.uuid4().hex[:8]}.part")
    text = json.dumps({**state, "sha256": digest, "check": _check(state, digest)})
    with suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_text(text, encoding="utf-8")
            os.replace(part, entry)
        finally:
            with suppress(OSError):
                part.unlink()


def _check(state: dict[str, Any], digest: str) -> str:
    """Checksum over a cache entry: a single changed bit in it is noticed."""
    return hashlib.sha256(json.dumps([state, digest], sort_keys=True).encode()).hexdigest()
