"""Temporary folders of a node that carry their owner's name, so that its next attempt finds and removes what a killed
one left."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def shared_folder(place: Path, make: Callable[[Path], None], *, instead_of: str, locks: Path) -> Iterator[Path]:
    """The folder that `make` fills, made once for all processes of this machine that want `place`, for as long as the
    block runs and until another one is made: those in the same parent whose names begin with `instead_of`, and that
    nobody uses, go then. Where `make` fails nothing is left.

    `locks`: a folder of this machine alone for files that stay, since not every shared file system has locks.
    """
    content = place / "content"
    with _lock_file(place, locks).open("a+") as lock:
        while True:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not content.is_dir():
                _remove_unused(place, instead_of, locks)
                _fill(place, content, make)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if content.is_dir():  # else another process has taken it away between the two locks
                break
        yield content


def _lock_file(place: Path, locks: Path) -> Path:
    """It is not removed: another process may hold it."""
    return locks / f"paft-{hashlib.sha256(str(place.absolute()).encode()).hexdigest()[:16]}.lock"


def _fill(place: Path, content: Path, make: Callable[[Path], None]) -> None:
    begun = place / "begun"
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir(parents=True)
    try:
        make(begun)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    begun.rename(content)


def _remove_unused(place: Path, prefix: str, locks: Path) -> None:
    for other in set(place.parent.glob(f"{prefix}*")) - {place}:
        with suppress(BlockingIOError), _lock_file(other, locks).open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(other, ignore_errors=True)
