"""The reader of JSONL files."""

from tests.fuzz.rows import read


def target(data: bytes) -> None:
    """`data`: the file."""
    read("rows.jsonl", data)
