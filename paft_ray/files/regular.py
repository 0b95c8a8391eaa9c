"""The one way to open a file that a user names: a regular file, of a bounded size, read without waiting."""

from __future__ import annotations

import os
import stat
from pathlib import Path

LARGEST_TEXT = 2**25
"""Most bytes of a file of templates."""


class FileTooLargeError(ValueError):
    """A file above its limit."""


def read_regular(path: str | Path, *, largest: int) -> bytes:
    """The content of a regular file (of a link to one), of at most `largest` bytes.

    A pipe, device or folder would be waited for or read for ever. Raises `OSError` or `ValueError`, each with its
    reason.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        data = stream.read(largest + 1)
    if len(data) > largest:
        raise FileTooLargeError(f"larger than {largest} bytes")
    return data
