"""Files that `--out` names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from paft_ray.errors import UserError


@contextmanager
def written_to(out: str) -> Iterator[None]:
    """Raises `UserError` where the block could not write the file."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--out {out}: cannot be written ({error.strerror or error}); give the path of a file that you may write"
        ) from None
