"""The fuzzing targets on their kept corpus and on mutations of it, without atheris (that is `make fuzz`)."""

import importlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.run import CORPUS, TARGETS

KEPT = {name: [file.read_bytes() for file in sorted((CORPUS / name).iterdir())] for name in TARGETS}
SPLICES = [
    b"",
    b"{",
    b"}",
    b"{text}",
    b'"',
    b"\n",
    b"\r",
    b",",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\\ud83d",
    b"[",
    b"]",
    b": ",
    b"&a ",
    b"*a",
    b"<<",
    b"!!",
    b"1e999",
    b"9" * 4400,
]


def target(name: str) -> Callable[[bytes], None]:
    return importlib.import_module(f"tests.fuzz.{name}").target


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A kept input with a piece taken out and another put in, up to three times."""
    data = draw(st.sampled_from(KEPT[name]))
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(len(data), begin + 8)))
        data = data[:begin] + draw(st.sampled_from(SPLICES) | st.binary(max_size=6)) + data[end:]
    return data


def test_every_corpus_belongs_to_a_target_and_is_small() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    assert sum(len(data) for kept in KEPT.values() for data in kept) < 100_000


@pytest.mark.parametrize("name", TARGETS)
def test_a_kept_input_still_does_what_its_target_asks(name: str) -> None:
    for data in KEPT[name]:
        target(name)(data)


@pytest.mark.parametrize("name", TARGETS)
# The same examples each time: pyarrow ends the process for about one file in two thousand, whose footer contradicts
# itself (docs/security.md); `make fuzz` draws new ones.
@settings(max_examples=150, derandomize=True)
@given(data=st.data())
def test_a_mutated_input_does_so_too(name: str, data: st.DataObject) -> None:
    target(name)(data.draw(mutated(name) | st.binary(max_size=200)))
