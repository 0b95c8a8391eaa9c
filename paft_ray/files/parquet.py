"""Every Parquet read of the package. A file is outside input: it is read only where its schema holds plain values.

Arrow makes Python objects of extension types while values are read: Ray Data's `arrow_pickled_object` loads a pickle.
So the schema is checked first, nested types included, and no such column is ever read, whatever columns are next to
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from paft_ray.errors import UserError, one_line

LARGEST_ROW = 2**22
"""Most bytes of one row's values."""
_BATCH_BYTES = 2**24
_ROW_OVERHEAD = 64
_BOMB_BYTES, _BOMB_RATIO = 2**30, 256  # text of real data sets is compressed tenfold, repeated passages a hundredfold
_CHUNK_RATIO = 1024
_SMALL_CHUNK, _READ_BYTES = 2**25, 2**31
_EXTENSION = b"ARROW:extension:name"


class UnsafeParquetError(UserError):
    """A Parquet file whose values must not be made."""


def read_table(
    source: Any, *, matches: Callable[[pa.Schema], bool], filesystem: pafs.FileSystem | None = None
) -> pa.Table:
    """The complete table of a file that this package wrote.

    `matches`: whether a schema is the expected one. Raises `UnsafeParquetError` for an extension type, `SchemaError`
    for another schema, and what Arrow raises for a file that is no Parquet.
    """
    file = _open(source, filesystem)
    schema = file.schema_arrow
    _refuse_extensions(schema)
    if not matches(schema):
        raise SchemaError(f"its columns are {_shown(schema)}")
    parts = _parts(file, source, filesystem, schema.names, batch_rows=(64, 2**16), largest_row=2 * LARGEST_ROW)
    return pa.Table.from_batches(list(parts), schema=schema).combine_chunks()


class SchemaError(ValueError):
    """A Parquet file with other columns than expected."""


def read_rows(
    path: str, filesystem: pafs.FileSystem, wanted: Callable[[pa.Schema], Sequence[str]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(Number from 1, row) of a user's file; columns that are not `wanted` are None and never read.

    `wanted`: schema -> columns, nested ones by a dotted path. Holds a bounded number of bytes, whatever the file
    repeats. Raises `UnsafeParquetError` for an extension type, a column of another kind than text, numbers and
    booleans, a row above `LARGEST_ROW` and a file that unpacks to far more than its size; else as Arrow does.
    """
    file = _open(path, filesystem)
    plain = file.schema_arrow
    _refuse_extensions(plain)
    names, number = dict.fromkeys(plain.names), 0
    for part in _parts(file, path, filesystem, wanted(plain), batch_rows=(2, 1024), largest_row=LARGEST_ROW):
        for row in part.to_pylist():
            number += 1
            yield number, {**names, **row}


def _open(source: Any, filesystem: pafs.FileSystem | None, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    """The file with its schema. Raises as `read_table`; extension types of other libraries raise there what they
    like."""
    try:
        return pq.ParquetFile(
            source, filesystem=filesystem, arrow_extensions_enabled=False, read_dictionary=list(dictionaries)
        )
    except (pa.ArrowException, OSError):
        raise
    except Exception as error:
        raise UnsafeParquetError(
            f"its schema cannot be read ({type(error).__name__}: {one_line(error)[:100]}); write the file anew"
        ) from None


def _parts(
    file: pq.ParquetFile,
    source: Any,
    filesystem: pafs.FileSystem | None,
    columns: Sequence[str],
    *,
    batch_rows: tuple[int, int],
    largest_row: int,
) -> Iterator[pa.RecordBatch]:
    """The columns in batches of a few MiB. `batch_rows`: fewest and most rows of one read. Raises `UnsafeParquetError`
    for too large a row, and for more bytes than a file of text of this size could hold.

    A small column chunk is read as a dictionary, so that a text that comes a thousand times is in memory once. A large
    one, whose dictionary would hold all its texts, is read in batches so short that no repeated text fills the memory.
    """
    size, unpacked = _chunks(file, columns)
    texts = [leaf for leaf in _text_leaves(file.schema_arrow) if leaf in unpacked]
    small = [leaf for leaf in texts if unpacked[leaf] <= _SMALL_CHUNK]
    largest = max((unpacked[leaf] for leaf in texts if leaf not in small), default=1)
    fewest, most = batch_rows
    rows_per_read = min(most, max(fewest, _READ_BYTES // largest))
    total = number = 0
    for batch in _open(source, filesystem, small).iter_batches(batch_size=rows_per_read, columns=list(columns)):
        sizes = sum(
            (_row_bytes(column) for column in batch.columns), np.full(batch.num_rows, _ROW_OVERHEAD, dtype=np.int64)
        )
        if (large := np.flatnonzero(sizes > largest_row)).size:
            row, found = number + int(large[0]) + 1, int(sizes[large[0]])
            raise UnsafeParquetError(
                f"row {row}: {found >> 20} MiB; a row may hold {largest_row >> 20} MiB, shorten it"
            )
        for part, num_bytes in _slices(batch, sizes):
            total += num_bytes
            if total > max(_BOMB_BYTES, _BOMB_RATIO * size):
                raise UnsafeParquetError(
                    f"row {number + 1}: {size} bytes unpack to over {total >> 20} MiB; write the file anew"
                )
            number += part.num_rows
            yield part


def _slices(batch: pa.RecordBatch, sizes: np.ndarray) -> Iterator[tuple[pa.RecordBatch, int]]:
    """(Rows with their texts unpacked, bytes of these), a few MiB at a time. `sizes`: bytes of each row."""
    parts = np.cumsum(sizes) // _BATCH_BYTES
    for part in np.unique(parts):
        rows = np.flatnonzero(parts == part)
        columns = [_unpacked(column) for column in batch.slice(int(rows[0]), len(rows)).columns]
        fields = [field.with_type(column.type) for field, column in zip(batch.schema, columns, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields)), int(sizes[rows].sum())


def holds_plain(schema: pa.Schema) -> bool:
    """Whether every column holds plain values."""
    return all(is_plain(field.type) for field in schema)


def holds(wanted: pa.Schema) -> Callable[[pa.Schema], bool]:
    """Whether a schema has these columns, of these kinds, and others of plain values at most; a column without any
    value may have lost its type."""
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string)

    def alike(found: pa.DataType, wanted: pa.DataType) -> bool:
        if pa.types.is_list(found) and pa.types.is_list(wanted):
            return alike(found.value_type, wanted.value_type)
        return found == wanted or any(kind(found) and kind(wanted) for kind in kinds) or pa.types.is_null(found)

    def matches(schema: pa.Schema) -> bool:
        return holds_plain(schema) and all(
            f.name in schema.names and alike(schema.field(f.name).type, f.type) for f in wanted
        )

    return matches


def is_plain(kind: pa.DataType) -> bool:
    """Whether a type holds text, bytes, numbers or booleans alone, in structs and lists too.

    Not in maps, lists of a fixed size, views and unions: `_text_leaves` and `_row_bytes` do not measure these, so a
    text that a small file repeats there would fill the memory.
    """
    if pa.types.is_struct(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return all(is_plain(kind.field(i).type) for i in range(kind.num_fields))
    if pa.types.is_dictionary(kind):
        return is_plain(kind.value_type)
    return (
        _is_text(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    """Text or bytes, whose length varies."""
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)


def _refuse_extensions(schema: pa.Schema) -> None:
    for field in schema:
        if name := _extension(field):
            raise UnsafeParquetError(
                f"column {field.name!r} is of the extension type {name}, which may run code; leave the column out"
            )


def _extension(field: pa.Field) -> str | None:
    """Name of the first extension type in a field, however deep; None where it has none."""
    kind = field.type
    if isinstance(kind, pa.BaseExtensionType):
        return str(kind.extension_name)
    if named := (field.metadata or {}).get(_EXTENSION):  # not registered in this process, but perhaps in the next one
        return str(named.decode(errors="replace"))
    if pa.types.is_dictionary(kind):
        return _extension(pa.field(field.name, kind.index_type)) or _extension(pa.field(field.name, kind.value_type))
    if pa.types.is_run_end_encoded(kind):
        return _extension(pa.field(field.name, kind.value_type))
    inner = [kind.field(i) for i in range(kind.num_fields)] if pa.types.is_nested(kind) else []
    return next((name for each in inner if (name := _extension(each))), None)


def _chunks(file: pq.ParquetFile, columns: Sequence[str]) -> tuple[int, dict[str, int]]:
    """(Bytes of these columns in the file, leaf -> bytes of its largest chunk, unpacked). Raises for a chunk that says
    of itself that it unpacks to a thousand times its size."""
    size, unpacked = 0, dict[str, int]()
    for leaf, path in enumerate(_leaf_paths(file)):
        if not any(path == column or path.startswith(f"{column}.") for column in columns):
            continue
        for group in range(file.metadata.num_row_groups):
            chunk = file.metadata.row_group(group).column(leaf)
            size += chunk.total_compressed_size
            unpacked[path] = max(unpacked.get(path, 0), chunk.total_uncompressed_size)
            # Of a list one row may hold all values, each of a byte and more, and equal ones take no room in the file.
            listed = chunk.num_values if file.schema.column(leaf).max_repetition_level else 0
            large = max(chunk.total_uncompressed_size, listed)
            if large > max(2 * _SMALL_CHUNK, _CHUNK_RATIO * chunk.total_compressed_size):
                found = f"{chunk.total_compressed_size} bytes unpack to {large >> 20} MiB"
                raise UnsafeParquetError(f"column {path!r}: {found}; write the file anew")
    return size, unpacked


def _leaf_paths(file: pq.ParquetFile) -> list[str]:
    return [file.schema.column(i).path for i in range(len(file.schema))]


def _text_leaves(schema: pa.Schema) -> list[str]:
    """Parquet paths of all text."""
    found: list[str] = []

    def walk(kind: pa.DataType, path: str) -> None:
        if pa.types.is_struct(kind):
            for i in range(kind.num_fields):
                walk(kind.field(i).type, f"{path}.{kind.field(i).name}")
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            walk(kind.value_type, f"{path}.list.{kind.value_field.name}")
        elif _is_text(kind):
            found.append(path)

    for field in schema:
        walk(field.type, field.name)
    return found


def _row_bytes(values: pa.Array) -> np.ndarray:
    """Bytes of each row's value, nested ones added up. Shape [rows]."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        lengths = np.append(_row_bytes(values.dictionary), 0)
        return np.asarray(lengths[pc.fill_null(values.indices, len(lengths) - 1).to_numpy(zero_copy_only=False)])
    if pa.types.is_struct(kind):
        return sum((_row_bytes(part) for part in values.flatten()), np.zeros(len(values), dtype=np.int64))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        sums = np.concatenate([[0], np.cumsum(_row_bytes(values.flatten()) + _ROW_OVERHEAD)])
        ends = np.cumsum(pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False).astype(np.int64))
        return np.diff(sums[np.concatenate([[0], ends])])
    if _is_text(kind):
        return np.asarray(pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False).astype(np.int64))
    return np.full(len(values), 8, dtype=np.int64)


def _unpacked(values: pa.Array) -> pa.Array:
    """The same values without dictionaries; of a slice nothing else is unpacked."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return values.dictionary_decode()
    if pa.types.is_struct(kind):
        parts = [_unpacked(part) for part in values.flatten()]
        fields = [kind.field(i).with_type(part.type) for i, part in enumerate(parts)]
        return pa.StructArray.from_arrays(parts, fields=fields, mask=values.is_null())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        first, last = values.offsets[0].as_py(), values.offsets[-1].as_py()
        inner = _unpacked(values.values.slice(first, last - first))
        large = pa.types.is_large_list(kind)
        found = (pa.large_list if large else pa.list_)(kind.value_field.with_type(inner.type))
        return type(values).from_arrays(pc.subtract(values.offsets, first), inner, type=found, mask=values.is_null())
    return values


def _shown(schema: pa.Schema) -> str:
    return one_line(", ".join(f"{field.name} ({field.type})" for field in schema))[:300]
