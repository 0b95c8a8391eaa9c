"""A module made of source text is one that dataclasses and tracebacks know."""

import sys
import traceback

import pytest

from paft_ray.compat.source_module import run_source

DATACLASS = b"""
from __future__ import annotations
from dataclasses import dataclass, fields
from typing import ClassVar

@dataclass
class A:
    kind: ClassVar[str] = "a"
    size: int = 1

NAMES = [field.name for field in fields(A)]
"""


def test_annotations_find_their_names_in_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "made_of_source", sys)  # taken away again
    module = run_source("made_of_source", DATACLASS, "my_plugin.py")
    assert module.NAMES == ["size"]
    assert sys.modules["made_of_source"] is module


def test_an_error_names_file_and_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "made_of_source", sys)
    with pytest.raises(ZeroDivisionError) as error:
        run_source("made_of_source", b"a = 1\nb = a / 0\n", "my_plugin.py")
    last = traceback.extract_tb(error.tb)[-1]
    assert (last.filename, last.lineno) == ("my_plugin.py", 2)
