"""Keys from the environment: read in one place, and checked before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping

from paft_ray.errors import UserError

_NOT_OF_A_KEY = re.compile(r"[^\x21-\x7e]")
_KINDS = {"\n": "a line feed", "\r": "a line break", "\t": "a tab", " ": "a space"}


def read_key(name: str, environment: Mapping[str, str]) -> str:
    """The key in the variable without the white space around it, which a mounted secret ends in; empty where there is
    none.

    Raises `UserError`, which does not show it, for characters that no key has and no header can carry.
    """
    key = environment.get(name, "").strip()
    if found := _NOT_OF_A_KEY.search(key):
        kind = _KINDS.get(
            found.group(), "a control character" if found.group().isascii() else "a character outside ASCII"
        )
        raise UserError(
            f"environment variable {name}: {kind} stands within the key (character {found.start() + 1} of "
            f"{len(key)}); copy the key again"
        )
    return key
