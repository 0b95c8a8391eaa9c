"""Rows from files and data sets: streamed, each with its place, refused with file, line and remedy."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from paft_ray.config import located
from paft_ray.credentials import holds_credentials
from paft_ray.errors import UserError, check_text, one_line
from paft_ray.files import parquet
from paft_ray.files.uris import split_uri
from paft_ray.sanitize import masked
from paft_ray.tasks.hub_datasets import dataset_rows
from paft_ray.tasks.task import Example, Source, Task, is_built_in
from paft_ray.tasks.values import holds, spelt

Row = Mapping[str, Any]
_Read = Callable[[pafs.FileSystem, str, str], Iterator[tuple[Row, str]]]
_FORMATS = (".jsonl", ".csv", ".parquet")


def read_rows(uri: str, wanted: Mapping[str, bool] | None = None) -> Iterator[tuple[Row, str]]:
    """Rows of a JSONL, CSV or Parquet file with their place (`file:line`), one at a time.

    `uri`: local path, pyarrow filesystem URI, or `builtin:NAME`. `wanted`: column (dotted path) -> whether rows cannot
    do without it; of a Parquet file no other is read, each is None in its rows. Raises `UserError` for what cannot be
    read.
    """
    ending = next((e for e in _FORMATS if split_uri(uri)[0].lower().endswith(e)), None)
    if ending is None:
        raise UserError(f"data {uri}: unknown kind of file; allowed: {', '.join(_FORMATS)}")
    filesystem, path = _locate(uri)
    formats: dict[str, _Read] = {".jsonl": _jsonl, ".csv": _csv, ".parquet": partial(_parquet, wanted)}
    empty = True
    for item in formats[ending](filesystem, path, uri):
        empty = False
        yield item
    if empty:
        raise UserError(f"data {uri}: the file holds no rows; give one with at least one row")


def read_examples(task: Task, source: Source) -> Iterator[Example]:
    """Validated examples of one source; rows without an id get a content id and the number of its occurrence.

    Rows have the columns that the task declares. Of a built-in task they may also have the fields' own names with
    `answer` or `label`, which the first row decides for all. Raises `UserError` with file and line for a bad row or an
    id that comes twice.
    """
    rows = read_rows(source.path, _paths(task)) if source.path is not None else dataset_rows(source)
    occurrences: Counter[str] = Counter()
    places: dict[str, str] = {}
    named: Task | None = None
    for row, where in rows:
        named = named or _as_row_names(task, row)
        _check_columns_kept(task, named, row, where)
        example = named.example(row, where)
        _check_encodable(example, where)
        if row.get("id") is None:
            occurrences[example.id] += 1
            example = Example(
                id=f"{example.id}-{occurrences[example.id]}", fields=example.fields, answer=example.answer
            )
        if example.id in places:
            raise UserError(
                f"{where}: id {example.id[:100]!r} stands already at {places[example.id]}; ids must be unique "
                "(or leave them out)"
            )
        places[example.id] = where
        yield example


def examples_to_table(examples: Iterable[Example], fields: Iterable[str]) -> pa.Table:
    """Arrow table with columns id, fields (struct) and answer."""
    schema = pa.schema(
        [("id", pa.string()), ("fields", pa.struct([(name, pa.string()) for name in fields])), ("answer", pa.string())]
    )
    return pa.Table.from_pylist(
        [{"id": e.id, "fields": dict(e.fields), "answer": e.answer} for e in examples], schema=schema
    )


def holds_examples(schema: pa.Schema) -> bool:
    """Whether a table has the columns of `examples_to_table`, whatever its fields."""
    if schema.names != ["id", "fields", "answer"] or not pa.types.is_struct(schema.field("fields").type):
        return False
    fields = schema.field("fields").type
    texts = [
        schema.field("id").type,
        schema.field("answer").type,
        *(fields.field(i).type for i in range(fields.num_fields)),
    ]
    return all(map(pa.types.is_string, texts))


def examples_from_table(table: pa.Table) -> list[Example]:
    """The examples of a table made by `examples_to_table`."""
    return [Example(id=row["id"], fields=row["fields"], answer=row["answer"]) for row in table.to_pylist()]


def check_source(task: Task, source: Source) -> None:
    """Raises `UserError` where a file source does not exist, is of an unknown kind, or its first row is not one of the
    task."""
    if source.path is not None:
        next(read_examples(task, source))


def content_hash(source: Source) -> str | None:
    """SHA-256 of a file source, 16 hex digits; None for a data set on a hub, which its commit identifies
    (`hub_datasets.resolved_commit`). Raises `UserError` where it cannot be read."""
    if source.path is None:
        return None
    digest = hashlib.sha256()
    with _open(*_locate(source.path), source.path) as stream:
        try:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
        except OSError as error:
            raise _unreadable(source.path, error) from None
    return digest.hexdigest()[:16]


def _paths(task: Task) -> dict[str, bool]:
    """Every column that a row of the task may use, and whether it is the task that names it."""
    return {"answer": False, "label": False} | dict.fromkeys(
        ["id", task.answer, *task.fields, *task.columns.values()], True
    )


def _as_row_names(task: Task, row: Row) -> Task:
    """The task as a file with this first row names things.

    Built-in tasks are declared with the columns of a hub's data set; a file that has none of these has the project's
    own: the fields' names with `answer` or `label`. A task of the user's own declares its columns, and none takes the
    place of one that is not there.
    """
    if any(path.split(".")[0] in row for path in task.columns.values()) or not is_built_in(task):
        return task
    answer = next((name for name in (task.answer, "answer", "label") if holds(row, name)), task.answer)
    return task.model_copy(update={"columns": {}, "answer": answer})


def _check_columns_kept(task: Task, named: Task, row: Row, where: str) -> None:
    """Raises `UserError` for a column that the task declares and the file's first row lacked: rows would be read from
    different columns."""
    declared = (
        {*task.columns.values(), task.answer} - {*named.columns.values(), named.answer} if named is not task else set()
    )
    if found := sorted(path for path in declared if holds(row, path)):
        raise UserError(
            f"{where}: column {found[0]!r} is here, and not in the first row of the file; give all rows the same "
            "columns"
        )


def _check_encodable(example: Example, where: str) -> None:
    for name, text in {**example.fields, "id": example.id, "answer": example.answer}.items():
        check_text(text, name, where)


def read_json(text: str | bytes) -> Any:
    """Plain values of a JSON text. Raises `ValueError`, also for a key that comes twice (the second would silently
    replace the first) and deep nesting."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {masked(twice)[:60]!r} comes twice")
    return found


def _locate(uri: str) -> tuple[pafs.FileSystem, str]:
    if holds_credentials(uri):
        raise UserError(
            "data: a URI holds credentials, which would be stored with the run; give them in the environment "
            "(e.g. AWS_ACCESS_KEY_ID)"
        )
    if uri.startswith("builtin:"):
        return pafs.LocalFileSystem(), located("data", uri)
    try:
        if "://" in uri:
            filesystem, path = pafs.FileSystem.from_uri(uri)
        else:
            filesystem, path = pafs.LocalFileSystem(), uri
        info = filesystem.get_file_info(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"data {uri}: cannot be reached ({one_line(error)}); give a path or URI that this machine can read"
        ) from None
    if info.type != pafs.FileType.File:
        raise UserError(f"data {uri}: no such file; give the path of a JSONL, CSV or Parquet file")
    return filesystem, path


def _open(filesystem: pafs.FileSystem, path: str, uri: str) -> pa.NativeFile:
    try:
        return filesystem.open_input_stream(path)
    except OSError as error:
        raise _unreadable(uri, error) from None


def _unreadable(uri: str, error: OSError) -> UserError:
    return UserError(f"data {uri}: cannot be read ({one_line(error)}); check that it is there and that you may read it")


def _lines(filesystem: pafs.FileSystem, path: str, uri: str) -> Iterator[tuple[str, int]]:
    """Decoded lines with their numbers; wrong bytes are refused with their line."""
    with _open(filesystem, path, uri) as stream:
        lines = io.BufferedReader(stream)
        for number in itertools.count(1):
            try:
                line = lines.readline(parquet.LARGEST_ROW + 1)
                if len(line) > parquet.LARGEST_ROW:
                    raise UserError(
                        f"{uri}:{number}: a line of over {parquet.LARGEST_ROW >> 20} MiB; write one row a line, "
                        "and shorten it"
                    )
                if not line:
                    return
                yield line.decode("utf-8-sig" if number == 1 else "utf-8"), number
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{uri}:{number}: not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8"
                ) from None
            except OSError as error:
                raise _unreadable(uri, error) from None


def _jsonl(filesystem: pafs.FileSystem, path: str, uri: str) -> Iterator[tuple[Row, str]]:
    for line, number in _lines(filesystem, path, uri):
        if not line.strip():
            continue
        try:
            row = read_json(line)
        except ValueError as error:
            raise UserError(f"{uri}:{number}: not JSON ({error}); each line is one object") from None
        if not isinstance(row, dict):
            raise UserError(f"{uri}:{number}: an object is needed, found {type(row).__name__}")
        yield row, f"{uri}:{number}"


def _csv(filesystem: pafs.FileSystem, path: str, uri: str) -> Iterator[tuple[Row, str]]:
    line = 1

    def lines() -> Iterator[str]:
        nonlocal line
        for text, line in _lines(filesystem, path, uri):  # noqa: B007 (the number is read below)
            yield text

    try:
        source = lines()
        first = next(source, "")
        # `text, label`: a space follows each comma.
        spaced = any(name[:1] == " " for name in next(csv.reader([first]), []))
        reader = csv.DictReader(itertools.chain([first], source), strict=True, skipinitialspace=spaced)
        reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
        _check_columns(reader.fieldnames, f"{uri}:1")
        for row in reader:
            if None in row or None in row.values():
                raise UserError(f"{uri}:{line}: the row has another number of columns than the head line; fix it")
            yield row, f"{uri}:{line}"
    except csv.Error as error:
        remedy = (
            f"quote fields that hold commas, quotes or line breaks; none may be longer than {csv.field_size_limit()} "
            "characters (in JSONL it may)"
        )
        raise UserError(f"{uri}:{line}: not CSV ({error}); {remedy}") from None


def _parquet(
    wanted: Mapping[str, bool] | None, filesystem: pafs.FileSystem, path: str, uri: str
) -> Iterator[tuple[Row, str]]:
    number = 0

    def columns(schema: pa.Schema) -> list[str]:
        _check_columns(schema.names, uri)
        return _columns(schema, wanted, uri)

    try:
        for number, row in parquet.read_rows(path, filesystem, columns):
            yield row, f"{uri}: row {number}"
    except parquet.UnsafeParquetError as error:
        raise UserError(f"{uri}: {error}") from None
    except UserError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"{uri}: row {number + 1}: not a Parquet file that can be read ({one_line(error)[:200]}); write the "
            "file anew"
        ) from None


def _columns(schema: pa.Schema, wanted: Mapping[str, bool] | None, uri: str) -> list[str]:
    """The columns of a Parquet file to read, of nested ones the part that is named. Raises `UserError` for one that a
    row's text cannot come from."""
    found = []
    for path, needed in (dict.fromkeys(schema.names, True) if wanted is None else wanted).items():
        words = path.split(".")
        prefixes = (".".join(words[:length]) for length in range(len(words), 0, -1))
        prefix, name = next(
            ((prefix, own) for prefix in prefixes if (own := spelt(prefix, schema.names)) is not None), ("", None)
        )
        if name is None:
            continue
        kind, parts = schema.field(name).type, path[len(prefix) + 1 :].split(".") if path != prefix else []
        while parts and pa.types.is_struct(kind) and kind.get_field_index(parts[0]) >= 0:
            name, kind = f"{name}.{parts[0]}", kind.field(parts[0]).type
            parts = parts[1:]
        if parquet.is_plain(kind):
            found.append(name)
        elif needed:
            raise UserError(
                f"{uri}: column {name!r} is of type {kind}; text, numbers or booleans are needed, write it as text"
            )
    return sorted(set(found))


def _check_columns(names: Sequence[str], where: str) -> None:
    if len(set(names)) < len(names):
        raise UserError(f"{where}: the head names a column twice ({', '.join(names)}); rename one")
