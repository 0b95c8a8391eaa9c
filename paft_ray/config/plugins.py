"""Files of a user's own graders, as a configuration names them: `my/grader.py`, or with the SHA-256 of the content
behind it, as a run stores them."""

from __future__ import annotations

import re
from os.path import expanduser
from typing import Annotated

from pydantic import AfterValidator

_PIN = "#sha256="
_DIGEST = re.compile(r"[0-9a-f]{64}")


def split_pin(given: str) -> tuple[str, str | None]:
    """(path, SHA-256 in hex digits or None) of a plugin."""
    path, _, digest = given.partition(_PIN)
    return path, digest or None


def pinned(path: str, sha256: str) -> str:
    """The plugin with the hash of its content."""
    return f"{path}{_PIN}{sha256}"


def _checked(given: str) -> str:
    path, digest = split_pin(given)
    if not path.endswith(".py") or "://" in path:
        raise ValueError("plugins: the path of a Python file is needed, e.g. my/grader.py")
    if _PIN in given and not _DIGEST.fullmatch(digest or ""):
        raise ValueError("plugins: 64 hex digits are needed behind #sha256=, or leave it out")
    return expanduser(given)


Plugin = Annotated[str, AfterValidator(_checked)]
"""Path of a Python file, with `#sha256=...` where only this content will do."""
