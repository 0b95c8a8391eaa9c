"""What outside text may hide: characters that do not show, and secrets. Both are written out or taken out where it is shown to people."""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, urlsplit

_BROKEN = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ue000-\uf8ff\U000f0000-\U0010ffff"
"""Control characters but tab and line feed, line and paragraph separators, half characters, private use."""
_IGNORABLE = r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"
"""What Unicode calls default ignorable: zero-width characters, bidirectional marks and overrides, fillers."""
_TAGS = r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
_JOINERS, _VARIANTS = r"\u200c\u200d", r"\ufe00-\ufe0f"
# Persian and Indic words and emoji need joiners between two of their characters, emoji a variant behind one: there, and once, they are part of what is seen.
_HIDDEN = re.compile(
    rf"[{_BROKEN}{_IGNORABLE}{_TAGS}]"
    rf"|(?<![^\x00-\x7f{_JOINERS}])[{_JOINERS}]|[{_JOINERS}](?![^\x00-\x7f{_JOINERS}])"
    rf"|(?<![^\s{_JOINERS}{_VARIANTS}])[{_VARIANTS}]"
)
_USER_OF_URI = re.compile(r"(\w:/{1,2})\S*@")  # one slash: as `Path` writes a URI
_SECRET_VARIABLE = re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|CREDENTIALS?|KEY|KEY_ID)$", re.IGNORECASE)
_SHORTEST_SECRET = 8
_SECRET_OPTION = re.compile(
    r"(?:^|[-_.])(?:(?:hf|auth|access|session|api|bearer|sas)[-_]?token|^token|secret|password|api[-_]?key|access[-_]?key(?:[-_]id)?"
    r"|secret[-_]?key|client[-_]?secret|authorization|credentials?|sig|signature)$",
    re.IGNORECASE,
)


def holds_hidden(text: str) -> bool:
    """Whether a character in it does not show, or changes how others are shown."""
    return _HIDDEN.search(text) is not None


def visible(text: str) -> str:
    """The text with every hidden character written out (`\\u202e`); tabs and line feeds stay."""
    return _HIDDEN.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def secrets_in(text: str) -> dict[str, str]:
    """The environment's keys and tokens (variable -> value) whose value stands in the text."""
    return {name: value for name, value in os.environ.items() if len(value) >= _SHORTEST_SECRET and _SECRET_VARIABLE.search(name) and value in text}


def masked(text: str) -> str:
    """The text without secrets: the values of the environment's keys and tokens, and what stands before the `@` of a URI."""
    for name, value in secrets_in(text).items():
        text = text.replace(value, f"[{name}]")
    return _USER_OF_URI.sub(r"\1***@", text)


def names_secret(name: str) -> bool:
    """Whether a setting of this name holds a key, token or password (`eos_token` and `max_tokens` do not)."""
    return _SECRET_OPTION.search(name) is not None


def holds_credentials(uri: str) -> bool:
    """Whether a URI carries a user, password or key, in its place or in its options."""
    if "://" not in uri:
        return False
    try:
        parts = urlsplit(uri)
    except ValueError:  # such as a bracket that is not closed: no filesystem takes it either
        return "@" in uri
    options = parse_qsl(parts.query, keep_blank_values=True)
    return "@" in parts.netloc or any(names_secret(name) or "@" in value for name, value in options)
