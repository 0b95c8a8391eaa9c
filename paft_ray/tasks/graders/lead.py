"""What may stand before an answer without being a part of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

_MARKS = " \t\r\n\f\v\u00a0\"'`*_#>~“”‘’„«»"
"""Spaces, quotes and Markdown."""
_LEAD = re.compile(r"answer[*_`]{0,3}\s{0,3}[:：]", re.IGNORECASE)


def without_leads(text: str) -> Iterator[str]:
    """The text as it is but for spaces around it, then without what may stand before an answer: quotes and Markdown,
    and `Answer:` in any case. Each is shorter than the one before."""
    text = text.strip()
    yield text
    bare = text.lstrip(_MARKS)
    if bare != text:
        yield bare
    if found := _LEAD.match(bare):
        yield bare[found.end() :].lstrip(_MARKS)


def without_lead(text: str) -> str:
    """The last of `without_leads`, and without such marks at its end."""
    *_, last = without_leads(text)
    return last.rstrip(_MARKS)
