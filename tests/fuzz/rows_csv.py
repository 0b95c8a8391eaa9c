"""The reader of CSV files."""

from tests.fuzz.rows import read


def target(data: bytes) -> None:
    """`data`: the file."""
    read("rows.csv", data)
