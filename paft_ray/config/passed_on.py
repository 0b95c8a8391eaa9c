"""Options that are passed on to a library: only names that a table allows, with values of the table's types."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from paft_ray.sanitize import masked


def check_passed_on(
    given: Mapping[str, Any], *, allowed: Mapping[str, Any], owned: Mapping[str, str], nearest: str, reason: str
) -> None:
    """Raises `ValueError` for a name that is not allowed, that a setting of ours decides, or whose value is not of its
    type.

    `allowed`: name -> type; `owned`: name -> the setting of ours that decides it; `nearest`: what is named where no
    allowed name is like a given one; `reason`: why a name is not passed on.
    """
    for name, value in given.items():
        if name in owned:
            raise ValueError(f"{name}: is decided by {owned[name]}; set that, and remove it here")
        if name not in allowed:
            near = ", ".join(difflib.get_close_matches(name, allowed, n=3, cutoff=0.4)) or nearest
            raise ValueError(
                f"{masked(name)[:60]!r}: {reason}, so it is not passed on; nearest allowed: {near}; remove it"
            )
        try:
            TypeAdapter(allowed[name], config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(value)
        except ValidationError as error:
            shown = type(value).__name__ if isinstance(value, dict | list) else masked(repr(value))[:60]
            raise ValueError(f"{name}: {error.errors()[0]['msg']} (given {shown})") from None
