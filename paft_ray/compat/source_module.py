"""A module made of source text, without a file that an import could find again."""

from __future__ import annotations

import sys
from types import ModuleType


def run_source(name: str, source: bytes, path: str) -> ModuleType:
    """The module of this name after its source has run; `path`: shown in tracebacks. Raises what the source raises.

    It stands in `sys.modules` like an imported one, for dataclasses and pydantic look there for the names of
    annotations. No public replacement: importlib's own recipe for a source without a finder does the same.
    """
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 (callers answer for the source)
    return module
