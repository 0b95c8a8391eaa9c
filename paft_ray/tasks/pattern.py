"""A task's regular expression, matched within limits of time and memory: pattern and texts come from users and
models."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import regex

LONGEST_TEXT = 100_000
"""Characters of a text that are searched; what stands behind them is not seen."""
MATCH_S = 1.0
"""Processor time that the search of one text may take; a pattern that does not backtrack without end needs a thousandth
of it."""
_LONGEST_PATTERN = 10_000
_DEEPEST = 50
_MOST_REPEATS = 10_000
_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?P<least>\d*),?\d*\}|.", re.DOTALL)
_LITERAL_BRACE = re.compile(r"(\\.)|\{(?!\d+(?:,\d*)?\}|,\d*\})", re.DOTALL)


class PatternError(ValueError):
    """Why a pattern cannot be taken, and what to do."""


def check_pattern(pattern: str) -> None:
    """Raises `PatternError` for what is no regular expression with one group, or would not fit in memory."""
    depth, size = _extent(pattern[:_LONGEST_PATTERN])
    if len(pattern) > _LONGEST_PATTERN or depth > _DEEPEST or size > _MOST_REPEATS:
        limits = (
            f"{_LONGEST_PATTERN} characters, {_DEEPEST} groups within each other and {_MOST_REPEATS} repeats that "
            "are counted out"
        )
        raise PatternError(f"too large; allowed are {limits}; write a shorter one")
    try:
        groups = re.compile(pattern).groups
        _compiled(pattern)
    except (re.error, regex.error, RecursionError, OverflowError) as error:
        raise PatternError(f"not a regular expression ({error}); fix it") from None
    if groups != 1:
        raise PatternError(
            f"exactly one group is needed, found {groups}; write (?:...) for groups that only hold together"
        )


def finditer(pattern: str, text: str) -> list[Any]:
    """Matches of a checked pattern in the first `LONGEST_TEXT` characters of a text. Raises `TimeoutError` after
    `MATCH_S`."""
    return list(_compiled(pattern).finditer(text[:LONGEST_TEXT], timeout=MATCH_S))


@lru_cache(maxsize=16)
def _compiled(pattern: str) -> Any:
    """Compiled to mean what it means in `re`: a brace that counts nothing is a character there, and asks for a fuzzy
    match in `regex`."""
    return regex.compile(_LITERAL_BRACE.sub(lambda found: found.group(1) or r"\{", pattern), regex.VERSION0)


def _extent(pattern: str) -> tuple[int, int]:
    """(depth of its groups, its size with every `{n}` written out), of a pattern that may yet be none."""
    open_groups: list[list[int]] = [[]]
    deepest = 0
    for piece in _PIECE.finditer(pattern):
        if piece.group() == "(":
            open_groups.append([])
            deepest = max(deepest, len(open_groups) - 1)
        elif piece.group() == ")" and len(open_groups) > 1:
            closed = sum(open_groups.pop()) + 1
            open_groups[-1].append(closed)
        elif (least := piece.group("least")) and open_groups[-1]:
            open_groups[-1][-1] *= min(max(1, int(least[:9])), 10**9)
        else:
            open_groups[-1].append(1)
    return deepest, sum(sum(sizes) for sizes in open_groups)
