"""Files and folders that `--out` names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from paft_ray.errors import UserError
from paft_ray.storage.store import Store

ANOTHER_OUT = "give another --out"
"""What else can be done where another command writes to the folder."""


@contextmanager
def written_to(out: str, *, option: str = "--out") -> Iterator[None]:
    """Raises `UserError` where the block could not write the file that an option names."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{option} {out}: cannot be written ({error.strerror or error}); give a place that you may write to"
        ) from None


def named_folder(out: str) -> Store:
    """The folder, not made yet. Raises `UserError` where none is named."""
    if not out.strip():
        raise UserError("--out: names no folder; give a new or empty one")
    return Store(out)


def check_folder(out: str, mark: str) -> Store:
    """The folder, not made yet. Raises `UserError` as `named_folder`, and where it holds something else than an earlier
    call's results, which a file called `mark` shows."""
    target = named_folder(out)
    if target.is_file("") or (target.entries() and not target.exists(mark)):
        raise UserError(f"--out {out}: is not empty, and not of this command; give a new or empty folder")
    return target
