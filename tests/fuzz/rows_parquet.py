"""The reader of Parquet files."""

from tests.fuzz.rows import read


def target(data: bytes) -> None:
    """`data`: the file."""
    read("rows.parquet", data)
