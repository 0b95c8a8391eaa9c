"""What may stand around an answer without being a part of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

_ROUND = " \t\r\n\f\v\u00a0\"'`*_“”‘’„«»"
"""Spaces, quotes and Markdown that may stand on both sides of an answer."""
_BEFORE = _ROUND + "#>~"
_LEAD = re.compile(r"answer[*_`]{0,3}\s{0,3}[:：]", re.IGNORECASE)


def without_leads(text: str) -> Iterator[str]:
    """The text as it is but for spaces around it, then without what may stand before an answer: quotes and Markdown,
    and `Answer:` in any case. Each is shorter than the one before."""
    text = text.strip()
    yield text
    bare = text.lstrip(_BEFORE)
    if bare != text:
        yield bare
    if found := _LEAD.match(bare):
        yield bare[found.end() :].lstrip(_BEFORE)


def without_lead(text: str) -> str:
    """The last of `without_leads`, without quotes and Markdown at its end; a text of nothing else as it is."""
    found = [*without_leads(text)]
    return found[-1].rstrip(_ROUND) if found[0].strip(_BEFORE) else found[0]
