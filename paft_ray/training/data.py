"""Ray Data feeds every worker its positions of the one global order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.data import ExecutionResources
from ray.train import DataConfig

from paft_ray.compat.ray_range import indices
from paft_ray.config import TrainConfig
from paft_ray.prompts.sampling import Draw
from paft_ray.prompts.template import PromptTemplate
from paft_ray.storage.store import Store
from paft_ray.training import checkpoint
from paft_ray.training.data_order import rank_slice
from paft_ray.training.example_builder import ExampleBuilder, Row

_TASK_CPUS = 0.25
_CONCURRENT_TASKS = 2
_BLOCK_ROWS = 1024
_BLOCK_BYTES = 2**20
_PREFETCH_BYTES = 2**26  # prepared rows that wait for a slow worker


@dataclass(frozen=True, kw_only=True)
class RowSource:
    """What a Ray Data task needs to make rows; hashable, so that each task process builds its `ExampleBuilder` once."""

    table: ray.ObjectRef
    """Arrow table in the object store, read without a copy."""
    encoder: ray.ObjectRef
    """`Encoder` in the object store."""
    templates: tuple[PromptTemplate, ...]
    draw: Draw
    seed: int
    num_positions: int


@lru_cache(maxsize=1)
def example_builder(source: RowSource) -> ExampleBuilder:
    """The `ExampleBuilder` of a source, kept in this process."""
    table, encoder = ray.get([source.table, source.encoder])
    return ExampleBuilder(
        table=table,
        templates=source.templates,
        encoder=encoder,
        draw=source.draw,
        seed=source.seed,
        num_positions=source.num_positions,
    )


def data_cpus(config: TrainConfig) -> float:
    """Logical CPUs of one Ray Data task: few, so that it finds room next to the workers on a small machine; none where
    the number of workers may change, since Ray Train then takes as many workers as there are CPUs."""
    return _TASK_CPUS if config.min_workers is None else 0


@dataclass(frozen=True, kw_only=True)
class GlobalOrder:
    """The rows of one training."""

    source: RowSource
    num_steps: int
    global_batch: int
    checkpoints: str
    """Folder or URI."""
    task_cpus: float = _TASK_CPUS

    def rank_dataset(self, rank: int, world_size: int, start_step: int) -> ray.data.Dataset:
        """Rows of one rank from `start_step` to the end, prepared as they are read: memory does not grow with their
        number."""
        own = rank_slice(rank, world_size, self.global_batch)
        num_rows = (self.num_steps - start_step) * len(own)
        rows = indices(num_rows, num_blocks=max(1, -(-num_rows // _BLOCK_ROWS)), num_cpus=self.task_cpus)
        prepare = partial(
            _prepare,
            source=self.source,
            share=len(own),
            first=start_step * self.global_batch + own.start,
            global_batch=self.global_batch,
        )
        compute = ray.data.TaskPoolStrategy(size=_CONCURRENT_TASKS)
        prepared = rows.map_batches(
            prepare, batch_size=64, batch_format="numpy", compute=compute, num_cpus=self.task_cpus
        )
        prepared.context.execution_options.preserve_order = True
        prepared.context.execution_options.resource_limits = ExecutionResources.for_limits(
            object_store_memory=_PREFETCH_BYTES
        )
        prepared.context.target_max_block_size = _BLOCK_BYTES
        prepared.context.enable_progress_bars = False
        return prepared


class ResumableDataConfig(DataConfig):
    """Gives rank r of w an iterator over its slice of every step of each training, by the training's name, from its
    newest checkpoint on; read again when a worker group first asks for it."""

    def __init__(self, orders: Mapping[str, GlobalOrder]) -> None:
        super().__init__()
        self.orders = orders

    def __deepcopy__(self, memo: dict[int, Any]) -> ResumableDataConfig:
        return self  # immutable, and a copied ObjectRef would not be counted by Ray

    def configure(
        self, datasets: Any, world_size: int, worker_handles: Any, worker_node_ids: Any, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """One `{name: iterator}` per rank for the names of `datasets`, each row a `Row`, in order of position."""
        starts = {name: checkpoint.newest(Store(self.orders[name].checkpoints)) for name in datasets}
        return [
            {name: self.orders[name].rank_dataset(rank, world_size, start).iterator() for name, start in starts.items()}
            for rank in range(world_size)
        ]


def step_rows(shard: Any, share: int) -> Iterator[list[Row]]:
    """One rank's rows of one step after another, `share` each, from a Ray Data iterator."""
    for batch in shard.iter_batches(batch_size=share, batch_format="pyarrow", prefetch_batches=4):
        yield batch.to_pylist()


def _prepare(batch: dict[str, np.ndarray], *, source: RowSource, share: int, first: int, global_batch: int) -> pa.Table:
    """Local indices of a rank -> positions -> rows."""
    steps, offsets = np.divmod(batch["id"].astype(np.int64), share)
    columns = example_builder(source).rows(first + steps * global_batch + offsets)
    return pa.table({name: pa.array(values, type=_TYPES[name]) for name, values in columns.items()})


_TYPES = {
    "position": pa.int64(),
    "epoch": pa.int64(),
    "weight": pa.float32(),
    "prompt_ids": pa.list_(pa.int32()),
    "answer_ids": pa.list_(pa.int32()),
    "template": pa.string(),
    "truncated_characters": pa.int32(),
    "example_id": pa.string(),
}
