"""Files that would run code, wait for ever or fill memory where they are read."""

from __future__ import annotations

import pickle
from typing import Any

import pyarrow as pa

from tests.hostile.bad_inputs.case import Case, imported, parquet, rows, templates

_ROWS = {"text": ["a fine film", "a bad film"], "label": ["positive", "negative"]}
_TEMPLATES = {"text": ["Good? {text}", "Bad? {text}"]}


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('a pickle ran')",)


def _with_pickles(columns: dict[str, list[Any]], name: str, *, nested: bool = False) -> bytes:
    """A Parquet file with one more column, of an extension type whose values are pickles."""
    plain = pa.table(columns)
    named = {b"ARROW:extension:name": name.encode(), b"ARROW:extension:metadata": b""}
    field, values = (
        pa.field("notes", pa.large_binary(), metadata=named),
        pa.array([pickle.dumps(_Runs())] * plain.num_rows, pa.large_binary()),
    )
    if nested:
        values = pa.StructArray.from_arrays([values], fields=[field])
        field = pa.field("notes", values.type)
    return parquet(pa.Table.from_arrays([*plain.columns, values], schema=plain.schema.append(field)))


def _repeated(column: str) -> bytes:
    """A text of 3 MiB a thousand times, in a file of a few KiB."""
    texts = pa.array(["{text} " + "x" * (3 << 20)]).dictionary_encode().take(pa.array([0] * 1000))
    return parquet(pa.table({column: texts, "label": ["positive"] * 1000}))


PICKLED = "ray.data.arrow_pickled_object"
CASES: list[Case] = [
    rows(
        "a column of pickles in Parquet",
        f"column 'notes' is of the extension type {PICKLED}",
        _with_pickles(_ROWS, PICKLED),
        "rows.parquet",
    ),
    rows(
        "pickles in a struct in Parquet", "extension type", _with_pickles(_ROWS, PICKLED, nested=True), "rows.parquet"
    ),
    rows(
        "an extension type that nobody registered",
        "extension type somebody.elses",
        _with_pickles(_ROWS, "somebody.elses"),
        "rows.parquet",
    ),
    rows(
        "a tensor without its shape in Parquet",
        "its schema cannot be read",
        _with_pickles(_ROWS, "ray.data.arrow_tensor"),
        "rows.parquet",
    ),
    rows(
        "a row of many MiB in Parquet",
        "a row may hold 4 MiB",
        parquet(pa.table({"text": ["x" * 2**23], "label": ["positive"]})),
        "rows.parquet",
    ),
    rows(
        "a line of many MiB", "rows.jsonl:2: a line of over 4 MiB", '{"text": "a", "label": "positive"}\n' + "[" * 2**23
    ),
    templates(
        "a column of pickles beside templates",
        f"extension type {PICKLED}",
        _with_pickles(_TEMPLATES, PICKLED),
        "templates.parquet",
    ),
    templates("templates that unpack to gigabytes", "unpack to over", _repeated("text"), "templates.parquet"),
    templates("templates of many MiB", "larger than 33554432 bytes", '{"text": "Good? {text}"}\n' + " " * 2**25),
    imported("a list of templates of many MiB", "larger than 33554432 bytes", " " * (2**25 + 1), "t.json"),
    Case(
        given="a device in place of templates",
        arguments=("prompts", "import", "{dir}/t.txt", "--task", "demo", "--out", "{dir}/out.jsonl"),
        says="not a regular file",
        files={"t.txt -> /dev/zero": ""},
    ),
    Case(
        given="a device in place of templates in JSON lines",
        arguments=("prompts", "import", "{dir}/t.jsonl", "--task", "demo", "--out", "{dir}/out.jsonl"),
        says="not a regular file",
        files={"t.jsonl -> /dev/zero": ""},
    ),
    Case(
        given="a device in place of a configuration",
        arguments=("run", "{dir}/c.yaml", "--dry-run"),
        says="not a regular file",
        files={"c.yaml -> /dev/zero": ""},
    ),
]
