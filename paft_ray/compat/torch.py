"""torch: an interface that is too new to be settled (2.13.0)."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

_MODULE = "torch.nn.attention.varlen"


def _varlen_attention() -> Callable[..., Any] | None:
    try:
        return getattr(import_module(_MODULE), "varlen_attn", None)
    except ImportError:
        return None


varlen_attention = _varlen_attention()
"""Attention over rows of several lengths in one sequence, by a flash kernel on a GPU; None where this torch has none:
rows are laid next to each other and padded then, with the same result. Public replacement: the `flash_attn` package."""
