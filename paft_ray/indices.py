"""Ray Data rows that are only numbers, to be made into real ones by the tasks behind them."""

from __future__ import annotations

import ray.data
from ray.data._internal.datasource.range_datasource import RangeDatasource  # as the docstring of `read_datasource` imports it


def indices(num_rows: int, *, num_blocks: int, num_cpus: float) -> ray.data.Dataset:
    """Column `id`, 0 to num_rows - 1, by tasks of `num_cpus` logical CPUs: those of `ray.data.range` take a whole one, which a full cluster never has free."""
    return ray.data.read_datasource(RangeDatasource(n=num_rows, block_format="arrow", column_name="id"), num_cpus=num_cpus, override_num_blocks=num_blocks)
