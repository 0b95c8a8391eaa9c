"""Ray Data rows that are only numbers, to be made into real ones by the tasks behind them.

`ray.data.range` has no `num_cpus`: its tasks take one CPU each, which a full cluster never has free. This is a data
source by Ray's public interface in place of its private `RangeDatasource`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

_COLUMN = "id"
_SCHEMA = pa.schema([(_COLUMN, pa.int64())])
_ROW_BYTES = 8


class IndexDatasource(Datasource):
    """Column `id`, 0 to num_rows - 1, one block per read task."""

    def __init__(self, num_rows: int) -> None:
        super().__init__()
        self.num_rows = num_rows

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of all rows."""
        return _ROW_BYTES * self.num_rows

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Tasks of equally many rows, the last one of the rest."""
        size = max(1, self.num_rows // parallelism)
        tasks = []
        for start in range(0, self.num_rows, size):
            end = min(start + size, self.num_rows)
            meta = BlockMetadata(
                num_rows=end - start, size_bytes=_ROW_BYTES * (end - start), input_files=None, exec_stats=None
            )
            tasks.append(
                ReadTask(partial(_blocks, start, end), meta, schema=_SCHEMA, per_task_row_limit=per_task_row_limit)
            )
        return tasks


def _blocks(start: int, end: int) -> list[pa.Table]:
    return [pa.table({_COLUMN: np.arange(start, end)}, schema=_SCHEMA)]


def indices(num_rows: int, *, num_blocks: int, num_cpus: float, most_tasks: int | None = None) -> ray.data.Dataset:
    """Column `id`, 0 to num_rows - 1, by tasks of `num_cpus` logical CPUs.

    `most_tasks` at once; Ray Data fuses what follows with it where that says the same.
    """
    return ray.data.read_datasource(
        IndexDatasource(num_rows), num_cpus=num_cpus, concurrency=most_tasks, override_num_blocks=num_blocks
    )
