"""Imports that leave out what is not used, and that do not look for garbage. Only time is lost without them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*names: str) -> Iterator[None]:
    """What is imported in the block finds these libraries missing, unless they are imported already: others import
    them, for seconds, for parts that are not used here.

    A library that is really needed then fails with `ModuleNotFoundError` at once. Public replacement: lazy imports in
    vLLM (by Ray 2.60.0), scikit-learn (by transformers 5.19.0) and MLflow (by DeepSpeed 0.19.8).
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: Python's mark of a missing module
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def uncollected() -> Iterator[None]:
    """What is imported in the block stays, so it is not looked through for garbage again and again meanwhile: a fifth
    of the time that vLLM takes."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
