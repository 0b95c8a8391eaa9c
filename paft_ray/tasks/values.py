"""Values of a row: found under a column's name or dotted path, read as text, and matched to one of the labels."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from paft_ray.errors import UserError
from paft_ray.sanitize import masked, visible

_WHOLE = re.compile(r"(-?\d+)(?:\.0+)?")
_WRITTEN_OUT = re.compile(r"\\(?:x\w{2}|u\w{4}|U\w{8})")
_LONGEST_SHOWN = 100
_MOST_NAMES = 20


def holds(row: Mapping[str, Any], path: str) -> bool:
    """Whether the row has this column, or a value at this dotted path."""
    return next(_found(row, path.split(".")), None) is not None


def at(row: Mapping[str, Any], path: str, where: str) -> Any:
    """The value of a column; the column of this very name comes before the dotted path (list items by number). Raises
    `UserError` where there is none."""
    found = next(_found(row, path.split(".")), None)
    if found is None:
        raise UserError(
            f"{where}: no column {path!r}; the row has: {listed(row)}; fix the row, or set `answer` or "
            "`columns` in the task"
        )
    return found[0]


def _found(value: Any, parts: Sequence[str]) -> Iterator[tuple[Any]]:
    """Values at a path, those under longer names first."""
    if not parts:
        yield (value,)
    elif isinstance(value, list | tuple) and parts[0].isdecimal() and int(parts[0]) < len(value):
        yield from _found(value[int(parts[0])], parts[1:])
    elif isinstance(value, Mapping):
        for end in range(len(parts), 0, -1):
            name = spelt(".".join(parts[:end]), value)
            if name is not None:
                yield from _found(value[name], parts[end:])


def spelt(name: str, names: Collection[str]) -> str | None:
    """The one of `names` that is this name, in whatever Unicode form; None where there is none, or where two are."""
    if name in names or name.isascii():
        return name if name in names else None
    same = [other for other in names if nfc(other) == nfc(name)]
    return same[0] if len(same) == 1 else None


def plain(value: Any) -> Any:
    """The value, as Python's own type where it is a scalar of numpy."""
    return value.item() if getattr(value, "shape", None) == () else value


def text_of(value: Any, name: str, where: str) -> str:
    """The text of a value, numbers as Python writes them. Raises `UserError` for any other type and for what is empty
    or missing."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{where}: {name} must be text or a number, found {type(value).__name__}; fix the row")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: {name} is a missing value ({value}); fill it in or drop the row")
    text = str(value)
    if not text.strip():
        raise UserError(f"{where}: {name} is empty; fill it in or drop the row")
    return text


def find_label(labels: Mapping[str, str], value: str | bool) -> str | None:
    """The label text of a value in the data, or None.

    Spaces around the value and its Unicode form do not count; `true` is one value in every case, and so are 1 and 1.0:
    it depends on the kind of file how these are written. Where such spellings have different labels, only the exact one
    counts.
    """
    if isinstance(value, str) and value in labels:
        return labels[value]
    spellings = _spellings(str(value).strip())
    found = {labels[spelling] for spelling in spellings if spelling in labels}
    if not found:
        forms = {nfc(spelling) for spelling in spellings}
        found = {label for key, label in labels.items() if nfc(key) in forms}
    return found.pop() if len(found) == 1 else None


def _spellings(text: str) -> tuple[str, ...]:
    if text.lower() in ("true", "false"):
        return text.lower(), text.capitalize(), text.upper()
    whole = _WHOLE.fullmatch(text)
    return (text, whole.group(1), f"{whole.group(1)}.0") if whole else (text,)


def nfc(text: str) -> str:
    """The text in Unicode's composed form: one `é` however it was typed."""
    return unicodedata.normalize("NFC", text)


def listed(names: Iterable[object]) -> str:
    """The first names of a list that may be long."""
    first = [*map(str, names)]
    more = f" and {len(first) - _MOST_NAMES} more" if len(first) > _MOST_NAMES else ""
    return ", ".join(first[:_MOST_NAMES]) + more


def shown(answer: str, labels: Iterable[str]) -> str:
    """An unknown label for an error; written out in ASCII next to the label that it looks like."""
    text = repr(masked(answer)[:_LONGEST_SHOWN])
    near = next((label for label in labels if _look_alike(answer, label)), None)
    if near is None:
        return text
    in_ascii, of_label = (
        re.sub(" {2,}", lambda spaces: r"\x20" * len(spaces.group()), ascii(part)) for part in (answer, near)
    )
    return f"{text}, that is {in_ascii} where the label is {of_label}"


def _look_alike(one: str, other: str) -> bool:
    """Whether two texts differ in spaces, in what does not show, or in one or two letters that are not both ASCII."""
    if len(one) > _LONGEST_SHOWN:
        return False
    left, right = (_WRITTEN_OUT.sub("", visible(" ".join(nfc(text).split()))) for text in (one, other))
    pairs = [pair for pair in zip(left, right, strict=False) if len(set(pair)) == 2]
    return len(left) == len(right) and len(pairs) <= 2 and not any("".join(pair).isascii() for pair in pairs)
