"""Rows from files and data sets: streamed, each with its place, refused with file, line and remedy."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from paft_ray.config import builtin
from paft_ray.errors import UserError
from paft_ray.tasks.task import Example, Source, Task

Row = Mapping[str, Any]
_FORMATS = (".jsonl", ".csv", ".parquet")


def read_rows(uri: str) -> Iterator[tuple[Row, str]]:
    """Rows of a JSONL, CSV or Parquet file with their place (`file:line`), one at a time.

    `uri`: local path, pyarrow filesystem URI, or `builtin:NAME`. Raises `UserError` for what cannot be read.
    """
    ending = next((e for e in _FORMATS if uri.lower().endswith(e)), None)
    if ending is None:
        raise UserError(f"data {uri}: unknown kind of file; allowed: {', '.join(_FORMATS)}")
    filesystem, path = _locate(uri)
    read = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}[ending]
    empty = True
    for item in read(filesystem, path, uri):
        empty = False
        yield item
    if empty:
        raise UserError(f"data {uri}: the file holds no rows; give one with at least one row")


def read_examples(task: Task, source: Source) -> Iterator[Example]:
    """Validated examples of one source; rows without an id get a content id and the number of its occurrence.

    Raises `UserError` with file and line for a bad row or an id that comes twice.
    """
    rows = read_rows(source.path) if source.path is not None else _dataset_rows(source)
    occurrences: Counter[str] = Counter()
    places: dict[str, str] = {}
    for row, where in rows:
        example = task.example(_renamed(task, row), where)
        if row.get("id") is None:
            occurrences[example.id] += 1
            example = Example(id=f"{example.id}-{occurrences[example.id]}", fields=example.fields, answer=example.answer)
        elif example.id in places:
            raise UserError(f"{where}: id {example.id!r} stands already at {places[example.id]}; ids must be unique (or leave them out)")
        places[example.id] = where
        yield example


def examples_to_table(examples: Iterable[Example], fields: Iterable[str]) -> pa.Table:
    """Arrow table with columns id, fields (struct) and answer."""
    schema = pa.schema([("id", pa.string()), ("fields", pa.struct([(name, pa.string()) for name in fields])), ("answer", pa.string())])
    return pa.Table.from_pylist([{"id": e.id, "fields": dict(e.fields), "answer": e.answer} for e in examples], schema=schema)


def examples_from_table(table: pa.Table) -> list[Example]:
    """The examples of a table made by `examples_to_table`."""
    return [Example(id=row["id"], fields=row["fields"], answer=row["answer"]) for row in table.to_pylist()]


def check_source(source: Source) -> None:
    """Raises `UserError` where a file source does not exist or is of an unknown kind; reads its first row."""
    if source.path is not None:
        next(read_rows(source.path))


def _renamed(task: Task, row: Row) -> Row:
    """Rows that already use the task's field names need no `columns`: the mapping holds only where its column is there."""
    missing = {name: path for name, path in task.columns.items() if path.split(".")[0] not in row and name in row}
    return {**row, **{path: row[name] for name, path in missing.items() if "." not in path}} if missing else row


def _locate(uri: str) -> tuple[pafs.FileSystem, str]:
    if uri.startswith("builtin:"):
        return pafs.LocalFileSystem(), str(builtin(*uri.removeprefix("builtin:").split("/")))
    try:
        if "://" in uri:
            filesystem, path = pafs.FileSystem.from_uri(uri)
        else:
            filesystem, path = pafs.LocalFileSystem(), uri
        info = filesystem.get_file_info(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"data {uri}: cannot be reached ({' '.join(str(error).split())})") from None
    if info.type != pafs.FileType.File:
        raise UserError(f"data {uri}: no such file; give the path of a JSONL, CSV or Parquet file")
    return filesystem, path


def _lines(filesystem: pafs.FileSystem, path: str, uri: str) -> Iterator[tuple[str, int]]:
    """Decoded lines with their numbers; wrong bytes are refused with their line."""
    with filesystem.open_input_stream(path) as stream:
        for number, line in enumerate(io.BufferedReader(stream), start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8"), number
            except UnicodeDecodeError as error:
                raise UserError(f"{uri}:{number}: not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8") from None


def _jsonl(filesystem: pafs.FileSystem, path: str, uri: str) -> Iterator[tuple[Row, str]]:
    for line, number in _lines(filesystem, path, uri):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(f"{uri}:{number}: not JSON ({error}); each line is one object") from None
        if not isinstance(row, dict):
            raise UserError(f"{uri}:{number}: an object is needed, found {type(row).__name__}")
        yield row, f"{uri}:{number}"


def _csv(filesystem: pafs.FileSystem, path: str, uri: str) -> Iterator[tuple[Row, str]]:
    reader = csv.DictReader((line for line, _ in _lines(filesystem, path, uri)), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UserError(f"{uri}:{reader.line_num}: the row has another number of columns than the head line; mend it")
            yield row, f"{uri}:{reader.line_num}"
    except csv.Error as error:
        raise UserError(f"{uri}:{reader.line_num}: not CSV ({error}); quote fields that hold commas, quotes or line breaks") from None


def _parquet(filesystem: pafs.FileSystem, path: str, uri: str) -> Iterator[tuple[Row, str]]:
    try:
        file = pq.ParquetFile(path, filesystem=filesystem)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"data {uri}: not a Parquet file ({' '.join(str(error).split())})") from None
    number = 0
    for batch in file.iter_batches(batch_size=1024):
        for row in batch.to_pylist():
            number += 1
            yield row, f"{uri}: row {number}"


def _dataset_rows(source: Source) -> Iterator[tuple[Row, str]]:
    """Rows of a Hugging Face data set, streamed; code shipped with a data set is never run."""
    from datasets import load_dataset

    name = f"data set {source.dataset} ({source.split})"
    try:
        rows = load_dataset(source.dataset, source.config, split=source.split, revision=source.revision, streaming=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: cannot be fetched ({' '.join(str(error).split())[:200]}); check id, split, HF_TOKEN and the network, or give a file") from None
    for number, row in enumerate(rows, start=1):
        yield row, f"{name}: row {number}"
