"""The audit log of a training: which pairs of example and template its optimizer steps really used, as the workers saw
them.

One Parquet file for the steps between two checkpoints, written by rank 0 before the later checkpoint, so every
checkpoint finds the complete log of its past. What a restart repeats is dropped at its start, as with metrics.jsonl.
The log is in `audit/<fingerprint>/` of a training's folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from paft_ray.files.parquet import holds
from paft_ray.storage.store import Store
from paft_ray.training.example_builder import Row

SCHEMA = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("epoch", pa.int64(), nullable=False),
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("template", pa.string(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),
    ]
)
"""`step` counts from 0; the rest as in `example_builder.Row`."""
_NAME = re.compile(r"steps-(\d+)-(\d+)\.parquet")

Gather = Callable[[Any], Sequence[Any] | None]
"""The values of all ranks, in order of rank, at rank 0; None at the others. Collective."""


class AuditLog:
    """One rank's part of the log."""

    def __init__(self, store: Store, *, rank: int, start_step: int, gather: Gather) -> None:
        """`start_step`: steps done before; what the log holds beyond them is dropped."""
        self.store = store
        self._first = start_step
        self._gather = gather
        self._rows: list[tuple[Any, ...]] = []
        if rank == 0:
            for name in _files(store):
                if (found := _NAME.fullmatch(name)) is None or int(found[2]) > start_step:
                    store.delete(name)

    def add(self, step: int, rows: Sequence[Row]) -> None:
        """Takes this rank's rows of one optimizer step."""
        self._rows.extend(
            (step, row["position"], row["epoch"], row["example_id"], row["template"], row["weight"]) for row in rows
        )

    def save(self, done: int) -> None:
        """Writes all ranks' rows since the last call; `done`: optimizer steps done. Collective."""
        gathered = self._gather(self._rows)
        if gathered is not None:
            rows = sorted(row for part in gathered for row in part)
            table = pa.table(
                [
                    pa.array(column, type=field.type)
                    for column, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)
                ],
                schema=SCHEMA,
            )
            self.store.write_table(f"steps-{self._first:08d}-{done:08d}.parquet", table)
        self._first, self._rows = done, []


def audit_store(out: Store, fingerprint: str) -> Store:
    """Where the log of a training is."""
    return out.below(f"audit/{fingerprint}")


def read_log(store: Store) -> Iterator[pa.Table]:
    """Tables with `SCHEMA`, in order of steps; none where there is no log. Raises `UserError` for a file
    that is not of a log."""
    for name in sorted(filter(_NAME.fullmatch, _files(store))):
        yield store.read_table(name, holds(SCHEMA)).select(SCHEMA.names).cast(SCHEMA)


def _files(store: Store) -> list[str]:
    return [info.base_name for info in store.entries()]
