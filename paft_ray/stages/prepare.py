"""Stage `data`: sources -> validated rows of the three splits; bad data is refused here, before any engine starts."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

from paft_ray.artifacts import Manifest, Run, cached
from paft_ray.config import Config, DataConfig
from paft_ray.errors import UserError
from paft_ray.prompts.draw import keyed_order
from paft_ray.tasks.readers import check_source, examples_to_table, read_examples
from paft_ray.tasks.task import Example, Source, Task, load_task

SplitName = Literal["train", "validation", "test"]


def sources(task: Task, data: DataConfig) -> dict[SplitName, Source]:
    """Where each split comes from: the config's files before the task's own. Raises `UserError` where there is nothing to train on."""
    given: dict[SplitName, str | None] = {"train": data.train, "validation": data.validation, "test": data.test}
    own = {} if data.train else task.sources  # other training rows make the task's own test rows another task's
    found: dict[SplitName, Source] = {name: Source(path=path) for name, path in given.items() if path}
    for name, source in own.items():
        found.setdefault(name, source)
    if "train" not in found:
        raise UserError(f"task {task.name}: no training rows; set data.train=FILE (.jsonl, .csv, .parquet) or `sources` in the task")
    return found


def check(config: Config) -> None:
    """Raises `UserError` for files that are not there, before anything starts."""
    for source in sources(load_task(config.task), config.data).values():
        check_source(source)


def run(config: Config, run: Run, *, force: bool = False) -> Manifest:
    """Writes data/{train,validation,test}.parquet."""
    task = load_task(config.task)
    key = {"task": task.model_dump(mode="json"), "data": config.data.model_dump(mode="json"), "seed": config.seed}
    return cached(run, "data", key, lambda: _prepare(config, task, run), force=force)


def _prepare(config: Config, task: Task, run: Run) -> Manifest:
    import ray

    read = ray.remote(num_cpus=0.5)(_read)
    names = sources(task, config.data)
    tables = ray.get([read.remote(task, source) for source in names.values()])
    for table in tables:
        if isinstance(table, str):
            raise UserError(table)
    splits = divide(dict(zip(names, tables, strict=True)), config.data, config.seed)
    for name, table in splits.items():
        run.write_table(f"data/{name}.parquet", table)
    return {"counts": {name: table.num_rows for name, table in splits.items()}}


def _read(task: Task, source: Source) -> pa.Table | str:
    """The table of one source, or the message of a user error (Ray would wrap the exception)."""
    try:
        return examples_to_table(read_examples(task, source), task.fields)
    except UserError as error:
        return str(error)


def divide(tables: dict[SplitName, pa.Table], data: DataConfig, seed: int) -> dict[SplitName, pa.Table]:
    """The three splits, drawn by seed; validation and test rows that no source gives are kept back from training.

    Raises `UserError` where too few rows are there.
    """
    wanted: dict[SplitName, int | None] = {"test": data.num_test, "validation": data.num_validation, "train": data.num_train}
    pool = {name: table.take(keyed_order(table["id"].to_pylist(), seed, f"rows {name}")) for name, table in tables.items()}
    result: dict[SplitName, pa.Table] = {}
    for name, count in wanted.items():
        origin: SplitName = name if name in pool else "train"
        have = pool[origin].num_rows
        if origin != name and count is None:
            raise UserError(f"data: no source for {name}; set data.{name}=FILE or data.num_{name}=N to keep back N of the training rows")
        n = have if count is None else min(count, have)
        if origin != name and n >= have:
            raise UserError(f"data: {have} training rows are too few to keep back {count} for {name}; lower data.num_{name} or add rows")
        result[name] = pool[origin].slice(0, n)
        pool[origin] = pool[origin].slice(n)
    return result


def examples_of(run: Run, split: SplitName) -> list[Example]:
    """The examples of one split of a run."""
    from paft_ray.tasks.readers import examples_from_table

    return examples_from_table(run.read_table(f"data/{split}.parquet"))
