"""Stage `prepare`: sources -> validated rows of the three splits; bad data is refused here, before an engine starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paft_ray.config import DataConfig
from paft_ray.errors import UserError
from paft_ray.log import get_logger, stage_label
from paft_ray.prompts.sampling import keyed_order
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.artifacts import ROWS, SplitName, stage_manifest
from paft_ray.storage.manifests import PREPARE
from paft_ray.storage.stage_cache import Manifest, cached
from paft_ray.storage.store import Store
from paft_ray.storage.versions import decided_by
from paft_ray.tasks.hub_datasets import HubClient, is_commit, resolved_commit
from paft_ray.tasks.readers import (
    check_source,
    content_hash,
    examples_from_table,
    examples_to_table,
    read_examples,
)
from paft_ray.tasks.task import Example, Source, Task, content_id
from paft_ray.training.data_order import plan

_log = get_logger(__name__)
RESULTS_VERSION = 2
"""Raised where a change of the code changes results (`scripts/results_versions.py`)."""
_ROWS_PER_BLOCK, _CHARACTERS_PER_BLOCK = 4096, 2**24


def run(resolved: ResolvedRun, *, force: bool = False) -> Manifest:
    """Writes prepare/{train,validation,test}.parquet."""
    config, task = resolved.config, resolved.task
    pinned = _pinned(sources(task, config.data), resolved.store, force=force)
    key = {
        **decided_by("prepare", RESULTS_VERSION),
        "task": resolved.task_key,
        "data": config.data.model_dump(mode="json"),
        "seed": config.seed,
        "sources": {name: _identity(source) for name, source in pinned.items()},
    }
    found = cached(
        resolved.store,
        PREPARE,
        key,
        lambda: _prepare(config.data, config.seed, task, pinned, resolved.store),
        force=force,
        accept=resolved.accept,
    )
    if num := found.get("counts", {}).get("train"):  # a training of no row ends here, and not after scoring
        train = config.train
        plan(num, epochs=train.num_epochs, steps=train.num_steps, global_batch=train.global_batch)
    return found


def _pinned(
    found: Mapping[SplitName, Source], run: Store, *, force: bool = False, client: HubClient | None = None
) -> dict[SplitName, Source]:
    """The sources with the revision of each data set resolved to a commit.

    Where the hub does not say (offline), a finished stage's own commit is taken, so that it is kept; without one the
    source stays as it is, and its commit is unknown.
    """
    pinned = dict(found)
    for name, source in found.items():
        if source.dataset is not None:
            commit = resolved_commit(source, client) or (None if force else _recorded_commit(run, name))
            pinned[name] = source if commit is None else source.model_copy(update={"revision": commit})
    return pinned


def _recorded_commit(run: Store, split: SplitName) -> str | None:
    """The commit that a finished stage read a split at."""
    try:
        found = stage_manifest(run, PREPARE)["key"]["sources"][split]["commit"]
    except (KeyError, TypeError):
        return None
    return found if is_commit(found) else None


def _identity(source: Source) -> str | dict[str, str | None] | None:
    """What decides the rows of a source: the hash of a file, the commit of a data set (None: unknown)."""
    if source.dataset is None:
        return content_hash(source)
    return {"commit": source.revision if is_commit(source.revision) else None}


def check(data: DataConfig, task: Task) -> None:
    """Raises `UserError` for a split without rows or a file that is not there or holds no row, before anything starts.
    Data sets on a hub are not reached."""
    found = sources(task, data)
    for source in found.values():
        check_source(task, source)
    for name, count in (("validation", data.num_validation), ("test", data.num_test)):
        if name not in found and count is None:
            raise UserError(
                f"data: no source for {name}; set data.{name}=FILE, or data.num_{name}=N to keep back N of the "
                "training rows"
            )


def sources(task: Task, data: DataConfig) -> dict[SplitName, Source]:
    """Where each split comes from: the config's files before the task's own. Raises `UserError` where there is nothing
    to train on."""
    given: dict[SplitName, str | None] = {"train": data.train, "validation": data.validation, "test": data.test}
    found: dict[SplitName, Source] = {
        **task.sources,
        **{name: Source(path=path) for name, path in given.items() if path},
    }
    if "train" not in found:
        raise UserError(
            f"task {task.name}: no training rows; set data.train=FILE (.jsonl, .csv, .parquet) or `sources` in the task"
        )
    return found


def examples_of(run: Store, split: SplitName) -> list[Example]:
    """The examples of one split of a run."""
    return examples_from_table(ROWS[split].read(run))


def divide(
    tables: dict[SplitName, pa.Table], data: DataConfig, seed: int, *, by_answer: bool
) -> dict[SplitName, pa.Table]:
    """The three splits, drawn by seed; validation and test rows that no source gives are kept back from training, so
    the splits are disjoint.

    `by_answer`: the answers are labels, and every first part of the validation and of the test rows holds them in the
    proportions of the rows that it is drawn from (`in_proportion`).

    Raises `UserError` where there are fewer rows than asked for (of a validation source with fewer, all are used).
    """
    taken = check_counts({name: table.num_rows for name, table in tables.items()}, set(tables), data)
    pool = {
        name: table.take(keyed_order(table["id"].to_pylist(), seed, f"rows {name}")) for name, table in tables.items()
    }
    result: dict[SplitName, pa.Table] = {}
    for name, (origin, count) in taken.items():
        rows = pool[origin]
        if by_answer and name != "train":
            order = in_proportion(rows["answer"])
            rows = rows.take(np.concatenate([order[:count], np.sort(order[count:])]))
        result[name], pool[origin] = rows.slice(0, count), rows.slice(count)
    return result


def in_proportion(answers: pa.ChunkedArray) -> np.ndarray:
    """Indices in an order of which every prefix holds each answer in its share of all rows, as nearly as whole rows
    can: none of its length has a smaller chi-squared (Sainte-Lague's method). Rows with one answer keep their order.
    Shape [len(answers)]."""
    code = answers.combine_chunks().dictionary_encode().indices.to_numpy()
    sizes = np.bincount(code)
    sorted_by_answer = np.argsort(code, kind="stable")
    rank = np.empty(len(code), dtype=np.int64)
    rank[sorted_by_answer] = np.arange(len(code)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.argsort((2 * rank + 1) / sizes[code], kind="stable")


def first_in_proportion(examples: Sequence[Example], num: int, seed: int, *, by_answer: bool) -> list[Example]:
    """`num` examples drawn by seed (all where there are fewer), with `by_answer` their answers in the proportions of
    all."""
    drawn = [examples[i] for i in keyed_order([example.id for example in examples], seed, "rows test")]
    if by_answer and drawn:
        drawn = [drawn[i] for i in in_proportion(pa.chunked_array([[example.answer for example in drawn]]))]
    return drawn[:num]


def check_counts(
    counts: Mapping[SplitName, int], found: Set[SplitName], data: DataConfig
) -> dict[SplitName, tuple[SplitName, int]]:
    """Split -> (source that its rows come from, number of rows), of the sources whose rows are counted. Raises
    `UserError` as `divide`."""
    left = dict(counts)
    taken: dict[SplitName, tuple[SplitName, int]] = {}
    wanted: dict[SplitName, int | None] = {
        "test": data.num_test,
        "validation": data.num_validation,
        "train": data.num_train,
    }
    for name, count in wanted.items():
        origin: SplitName = name if name in found else "train"
        if origin not in left:
            continue
        have = left[origin]
        if count is None or (count > have and name == origin == "validation"):
            count = have
        elif origin != name and count >= have:
            raise UserError(
                f"data: {have} training rows are too few to keep back {count} for {name}; lower data.num_{name} "
                "or add rows"
            )
        elif count > have:
            raise UserError(
                f"data.num_{name}={count}: only {have} rows are there; allowed: 1 to {have}, or null for all"
            )
        taken[name] = (origin, count)
        left[origin] = have - count
    return taken


def _prepare(data: DataConfig, seed: int, task: Task, found: dict[SplitName, Source], run: Store) -> Manifest:
    check(data, task)
    splits = divide(_read_all(task, found), data, seed, by_answer=bool(task.label_texts))
    outputs: dict[str, str] = {}
    for name, table in splits.items():
        outputs |= ROWS[name].write(run, table)
    trained = _contents(splits["train"])
    repeats: dict[SplitName, int] = {name: len(_contents(splits[name]) & trained) for name in splits if name != "train"}
    _warn_of_rows(splits, repeats, task)
    return {
        "counts": {name: table.num_rows for name, table in splits.items()},
        "also_in_train": repeats,
        "datasets": {
            name: {"id": source.dataset, "config": source.config, "split": source.split, "revision": source.revision}
            for name, source in found.items()
            if source.dataset is not None
        },
        "outputs": outputs,
    }


def _warn_of_rows(splits: Mapping[SplitName, pa.Table], repeats: Mapping[SplitName, int], task: Task) -> None:
    """Says what makes figures too high or too low."""
    label = stage_label("prepare")
    for name, number in repeats.items():
        if number:
            _log.warning(
                f"{label} {number} of {splits[name].num_rows} {name} rows are training rows, too (the same text and "
                "answer): remove what comes twice, or give a file of other rows"
            )
    if task.label_texts:
        return
    answers = [example.answer for example in examples_from_table(splits["test"])]
    if longer := sum(len(answer.split()) > task.max_answer_tokens for answer in answers):
        _log.warning(
            f"{label} {longer} of {len(answers)} test answers have more words than models may write tokens; raise "
            f"max_answer_tokens ({task.max_answer_tokens}) of task {task.name}"
        )


def _contents(table: pa.Table) -> set[str]:
    """Content ids of the rows whatever their given ids: the same text in two splits is counted and said."""
    return {content_id(example.fields, example.answer) for example in examples_from_table(table)}


def _read_all(task: Task, found: dict[SplitName, Source]) -> dict[SplitName, pa.Table]:
    """One table per source, its rows streamed and checked by one Ray Data task each. Raises the `UserError` of the
    first bad row.

    Files without a scheme are on this machine, so their tasks run here where it has a free CPU.
    """
    import ray

    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    items = [{"split": name, "source": _absolute(source).model_dump_json()} for name, source in found.items()]
    rows = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _read,
        batch_size=1,
        batch_format="pyarrow",
        fn_kwargs={"task": task},
        label_selector=here,
        fallback_strategy=[{"label_selector": {}}],
        udf_modifying_row_count=True,
    )
    parts: dict[SplitName, list[pa.Table]] = {name: [] for name in found}
    for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
        if errors := batch["error"].drop_null().to_pylist():
            raise UserError(errors[0])
        for name in found:
            parts[name].append(batch.filter(pc.equal(batch["split"], name)).select(["id", "fields", "answer"]))
    return {name: pa.concat_tables(tables) for name, tables in parts.items()}


def _read(batch: pa.Table, task: Task) -> Iterator[pa.Table]:
    """Blocks of one source's rows; a user error travels as a row, since Ray would wrap the exception in its own."""
    name, source = batch["split"][0].as_py(), Source.model_validate_json(batch["source"][0].as_py())
    pending: list[Example] = []
    characters = 0
    message: str | None = None
    try:
        for example in read_examples(task, source):
            pending.append(example)
            characters += sum(map(len, example.fields.values()))
            if len(pending) == _ROWS_PER_BLOCK or characters > _CHARACTERS_PER_BLOCK:
                yield _block(pending, task, name)
                pending, characters = [], 0
    except UserError as error:
        message = str(error)
        pending = [Example(id="", fields=dict.fromkeys(task.fields, ""), answer="")]
    if pending:
        yield _block(pending, task, name, message)


def _block(examples: list[Example], task: Task, name: str, message: str | None = None) -> pa.Table:
    table = examples_to_table(examples, task.fields)
    columns: dict[str, Any] = {
        "split": [name] * len(examples),
        "error": pa.array([message] * len(examples), pa.string()),
    }
    return pa.table({**columns, **{column: table[column] for column in table.column_names}})


def _absolute(source: Source) -> Source:
    """The source with a local path made absolute: Ray's workers may stand in another folder."""
    if source.path is None or "://" in source.path or source.path.startswith("builtin:"):
        return source
    return source.model_copy(update={"path": str(Path(source.path).resolve())})
