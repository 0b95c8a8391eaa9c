"""Keys from the environment: read in one place, checked before anything is sent, and taken out of what comes back."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

from paft_ray.errors import UserError

_NOT_OF_A_KEY = re.compile(r"[^\x21-\x7e]")
_KINDS = {"\n": "a line feed", "\r": "a line break", "\t": "a tab", " ": "a space"}
_SHORTEST_ENCODED = 8  # shorter ones would take common letters out of answers


def read_key(name: str, environment: Mapping[str, str]) -> str:
    """The key in the variable without the white space around it, which a mounted secret ends in; empty where there is none.

    Raises `UserError`, which does not show it, for characters that no key has and no header can carry.
    """
    key = environment.get(name, "").strip()
    if found := _NOT_OF_A_KEY.search(key):
        kind = _KINDS.get(found.group(), "a control character" if found.group().isascii() else "a character outside ASCII")
        raise UserError(f"environment variable {name}: {kind} stands within the key (character {found.start() + 1} of {len(key)}); copy the key again")
    return key


def without_key(text: str, key: str) -> str:
    """The text with every form of the key written as `[key]`: as it is, as JSON, Python and URLs write it, and within base64."""
    for form in sorted(set(_forms(key)), key=len, reverse=True) if key else ():
        text = text.replace(form, "[key]")
    return text


def _forms(key: str) -> Iterator[str]:
    yield from (key, repr(key)[1:-1], json.dumps(key)[1:-1], quote(key), quote(key, safe=""), quote_plus(key))
    if len(key) >= _SHORTEST_ENCODED:
        for shift in range(3):  # its place in what is encoded, such as `Bearer KEY`, decides the letters
            encoded = base64.b64encode(bytes(shift) + key.encode()).decode()
            within = encoded[-(-shift * 8 // 6) : (shift + len(key)) * 8 // 6]
            yield from (within, within.replace("+", "-").replace("/", "_"))
