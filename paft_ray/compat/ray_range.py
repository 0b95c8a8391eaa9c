"""Ray Data rows that are only numbers, to be made into real ones by the tasks behind them."""

from __future__ import annotations

import ray.data
from ray.data._internal.datasource.range_datasource import (
    RangeDatasource,
)  # as the docstring of `read_datasource` imports it


def indices(num_rows: int, *, num_blocks: int, num_cpus: float, most_tasks: int | None = None) -> ray.data.Dataset:
    """Column `id`, 0 to num_rows - 1, by tasks of `num_cpus` logical CPUs: those of `ray.data.range` take a whole one,
    which a full cluster never has free.

    `most_tasks` at once; Ray Data fuses what follows with it where that says the same.
    """
    source = RangeDatasource(n=num_rows, block_format="arrow", column_name="id")
    return ray.data.read_datasource(source, num_cpus=num_cpus, concurrency=most_tasks, override_num_blocks=num_blocks)
