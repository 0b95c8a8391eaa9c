"""Resume cache of an unfinished inference stage: answers are stored in parts as they arrive, so that a later attempt
computes only the missing ones."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from paft_ray.files import parquet
from paft_ray.log import get_logger
from paft_ray.storage.stage_cache import PARTIAL
from paft_ray.storage.store import Store
from paft_ray.storage.versions import deciding_versions

_log = get_logger(__name__)
PAID = "paid"
"""Folder of a stage with answers that outlast it: each is paid for once, in money or time."""
SAVE_EVERY_S = 10
"""Longest time that an answer waits in memory, in seconds."""
SAVE_ROWS = 4096
"""Most answers that wait in memory."""


def identity(key: str, prompt: Sequence[int] | str, settings: str) -> str:
    """Identity of one request, 16 hex digits: what decides its answer besides the model."""
    return hashlib.blake2b(
        json.dumps([key, prompt if isinstance(prompt, str) else list(map(int, prompt)), settings]).encode(),
        digest_size=8,
    ).hexdigest()


@dataclass(frozen=True, kw_only=True)
class AnswerCache:
    """A folder of Parquet files, each named by the hash of its content, so that no attempt overwrites another's file
    and a damaged one is recognized."""

    run: Store
    folder: str
    """Relative to the run."""

    @classmethod
    def of(cls, run: Store, stage: str) -> AnswerCache:
        """The cache of a stage; it is deleted when the manifest is written."""
        return cls(run=run, folder=f"{stage}/{PARTIAL}" if stage else PARTIAL)

    @property
    def lasting(self) -> AnswerCache:
        """The same for answers that are paid for once: no manifest and no `--force` deletes them, so that they are not
        asked for again where only what is made of them has changed."""
        return replace(self, folder=self.folder.removesuffix(PARTIAL) + PAID)

    def keyed(self, key: Mapping[str, Any]) -> AnswerCache:
        """The part of the cache under certain settings. `key`: everything that decides its answers besides the
        requests; versions of the libraries are added, which decide nothing that an endpoint answers."""
        is_lasting = self.folder.endswith(PAID)
        versions = {} if is_lasting else {"versions": deciding_versions("evaluate")}
        text = json.dumps({**key, **versions}, sort_keys=True)
        return replace(self, folder=f"{self.folder}/{hashlib.sha256(text.encode()).hexdigest()[:16]}")

    def add(self, rows: pa.Table) -> None:
        """Stores rows in one file: all or none of them."""
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink)
        data = sink.getvalue().to_pybytes()
        self.run.write_bytes(f"{self.folder}/part-{_sum(data)}.parquet", data)

    def read(self, schema: pa.Schema) -> pa.Table:
        """Every stored row once, by its column `request`; one without an `error` before one with. A damaged file, or
        one of another schema, is skipped."""
        tables = [schema.empty_table()]
        for file in sorted(self._files()):
            table = self._part(file, schema)
            if table is not None:
                tables.append(table)
            else:
                _log.warning(f"skipping damaged answer file {self.run.uri(file)}: its requests are retried")
        rows = pa.concat_tables(tables)
        rows = rows.sort_by("error")
        _, first = np.unique(rows["request"].to_numpy(zero_copy_only=False).astype("S16"), return_index=True)
        return rows.take(pa.array(np.sort(first)))

    def _files(self) -> list[str]:
        return [f"{self.folder}/{info.base_name}" for info in self.run.entries(self.folder) if info.is_file]

    def _part(self, file: str, schema: pa.Schema) -> pa.Table | None:
        """The rows of a file, None where its content is not what was written."""
        data = self.run.read_bytes(file)
        if not file.endswith(f"/part-{_sum(data)}.parquet"):
            return None
        try:
            return parquet.read_table(pa.BufferReader(data), matches=schema.equals)
        except (pa.ArrowException, ValueError):
            return None


class BufferedWriter:
    """Collects rows into files of a useful size; stores waiting rows at the end of its block, loses them where the
    process is killed."""

    def __init__(self, cache: AnswerCache) -> None:
        self.cache = cache
        self.waiting: list[pa.Table] = []
        self.since_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.save()

    def add(self, rows: pa.Table) -> None:
        """Adds rows, to be stored within `SAVE_EVERY_S` if `save_due` is called that often."""
        if not self.waiting:
            self.since_s = time.monotonic()
        self.waiting.append(rows)
        self.save_due()

    def save_due(self) -> None:
        """Stores the waiting rows, if they have waited long enough or are many enough."""
        if self.waiting and (
            time.monotonic() - self.since_s >= SAVE_EVERY_S or sum(rows.num_rows for rows in self.waiting) >= SAVE_ROWS
        ):
            self.save()

    def save(self) -> None:
        """Stores the waiting rows."""
        if self.waiting:
            self.cache.add(pa.concat_tables(self.waiting))
            self.waiting = []


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
