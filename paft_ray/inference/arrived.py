"""Answers that the driver holds until they are judged: millions of rows, which come a batch at a time."""

from __future__ import annotations

import pyarrow as pa

_MOST_PARTS = 512
"""Tables of one batch each weigh as much as their rows, so they are copied into one."""


class Arrived:
    """Rows of one schema, added a table at a time."""

    def __init__(self, first: pa.Table) -> None:
        self._whole: list[pa.Table] = [first]
        self._parts: list[pa.Table] = []
        self.num_rows = first.num_rows

    def add(self, rows: pa.Table) -> None:
        """Keeps more rows."""
        self._parts.append(rows)
        self.num_rows += rows.num_rows
        if len(self._parts) == _MOST_PARTS:
            self._whole.append(pa.concat_tables(self._parts).combine_chunks())
            self._parts = []

    @property
    def table(self) -> pa.Table:
        """All rows."""
        return pa.concat_tables([*self._whole, *self._parts])
