"""Parquet as outside input: no value of an extension type is ever made, no file is larger in memory than it may be."""

import ast
import base64
import json
import pickle
import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data  # registers the extension types whose values are pickles

from paft_ray.errors import UserError
from paft_ray.files import parquet
from paft_ray.prompts.prompt_set import SCHEMA, read_templates
from paft_ray.storage.schemas import SCORES
from paft_ray.storage.store import Store
from paft_ray.tasks.readers import holds_examples, read_examples
from paft_ray.tasks.task import Source, Task

TASK = Task(
    name="t", kind="choice", description="d", fields={"text": "the text"}, labels={"good": "good", "bad": "bad"}
)
NAME = {b"ARROW:extension:name": b"ray.data.arrow_pickled_object", b"ARROW:extension:metadata": b""}


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.marker, "w")


def pickles(marker: Path, n: int) -> pa.Array:
    return pa.array([pickle.dumps(Evil(marker))] * n, pa.large_binary())


def evil(how: str, marker: Path, n: int = 3) -> tuple[pa.Field, pa.Array]:
    """A column that runs code when its values are made."""
    inner = pa.field("x", pa.large_binary(), metadata=NAME)
    values = pickles(marker, n)
    if how == "top":
        return pa.field("evil", pa.large_binary(), metadata=NAME), values
    if how == "struct":
        return pa.field("evil", pa.struct([inner])), pa.StructArray.from_arrays([values], fields=[inner])
    if how == "list":
        kind = pa.list_(pa.field("element", pa.large_binary(), metadata=NAME))
        return pa.field("evil", kind), pa.ListArray.from_arrays(pa.array(range(n + 1), pa.int32()), values, type=kind)
    kind = pa.map_(pa.string(), pa.field("value", pa.large_binary(), metadata=NAME))
    keys = pa.array(["k"] * n)
    return pa.field("evil", kind), pa.MapArray.from_arrays(pa.array(range(n + 1), pa.int32()), keys, values, type=kind)


def table_with(how: str, marker: Path, columns: dict[str, list[Any]], schema: pa.Schema | None = None) -> pa.Table:
    plain = pa.table(columns, schema=schema)
    field, values = evil(how, marker, plain.num_rows)
    return pa.Table.from_arrays([*plain.columns, values], schema=plain.schema.append(field))


_FIELDS = [{"a": "1", "b": ["u", None]}, None, {"a": None, "b": []}]
KINDS = ("top", "struct", "list", "map")


@pytest.mark.parametrize("how", KINDS)
def test_an_extension_column_is_refused_in_rows_and_templates(how: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "f.parquet"
    rows = {"text": ["{text} a", "{text} b", "{text} c"], "label": ["good", "bad", "good"], "system": [None, "s", None]}
    pq.write_table(table_with(how, marker, rows), path)
    assert pa.types.is_large_binary(pa.large_binary())
    with pytest.raises(UserError, match=r"column 'evil' is of the extension type ray.data.arrow_pickled_object"):
        list(read_examples(TASK, Source(path=str(path))))
    with pytest.raises(UserError, match="extension type"):
        read_templates(path)
    assert not marker.exists()


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("scores", parquet.holds(SCORES)),
        ("prompts", SCHEMA.equals),
        ("rows", holds_examples),
        ("any", parquet.holds_plain),
    ],
)
def test_an_extension_column_is_refused_in_a_table_of_a_run(how: str, name: str, matches: Any, tmp_path: Path) -> None:
    marker, run = tmp_path / "marker", Store(str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    pq.write_table(table_with(how, marker, {"id": ["a", "b"]}), run.path("t.parquet"))
    with pytest.raises(UserError, match="extension type"):
        run.read_table("t.parquet", matches)
    assert not marker.exists()


def test_a_wanted_column_of_an_extension_type_is_refused(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "f.parquet"
    field = pa.field("text", pa.large_binary(), metadata=NAME)
    pq.write_table(
        pa.Table.from_arrays(
            [pickles(marker, 2), pa.array(["good", "bad"])], schema=pa.schema([field, pa.field("label", pa.string())])
        ),
        path,
    )
    with pytest.raises(UserError, match="extension type"):
        list(read_examples(TASK, Source(path=str(path))))
    assert not marker.exists()


def test_an_extension_type_that_nobody_registered_is_refused_before_somebody_does(tmp_path: Path) -> None:
    path, field = (
        tmp_path / "f.parquet",
        pa.field(
            "x", pa.binary(), metadata={b"ARROW:extension:name": b"somebody.elses", b"ARROW:extension:metadata": b""}
        ),
    )
    pq.write_table(pa.Table.from_arrays([pa.array([b"x"])], schema=pa.schema([field])), path)
    with pytest.raises(UserError, match=r"somebody\.elses"):
        list(read_examples(TASK, Source(path=str(path))))


def test_ray_would_have_run_it(tmp_path: Path) -> None:
    """The columns of these tests are live: what pyarrow alone makes of them opens the marker."""
    marker, path = tmp_path / "marker", tmp_path / "f.parquet"
    assert ray.data is not None
    pq.write_table(table_with("top", marker, {"id": ["a"]}), path)
    with pytest.raises(TypeError):
        json.dumps(pq.read_table(path).to_pylist())
    assert marker.exists()


def test_columns_that_the_task_does_not_name_are_not_read(tmp_path: Path) -> None:
    """A date past year 9999, an unknown time zone, other encodings: each breaks the reading of its own column alone."""
    path = tmp_path / "f.parquet"
    columns = {
        "text": pa.array(["a film", "another"]),
        "label": pa.array(["good", "bad"]),
        "far": pa.array([3_000_000, 1], pa.date32()),
        "zone": pa.array([1, 2], pa.timestamp("us", tz="Mars/Olympus")),
        "latin": pa.Array.from_buffers(
            pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xe9\xe8")]
        ),
    }
    pq.write_table(pa.table(columns), path)
    assert [example.fields["text"] for example in read_examples(TASK, Source(path=str(path)))] == ["a film", "another"]


def test_of_a_nested_column_only_the_named_part_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    rows = [{"meta": {"text": "a film", "when": 3_000_000}, "label": "good"}]
    kind = pa.struct([("text", pa.string()), ("when", pa.date32())])
    pq.write_table(pa.table({"meta": pa.array([row["meta"] for row in rows], kind), "label": ["good"]}), path)
    task = TASK.model_copy(update={"columns": {"text": "meta.text"}})
    assert [example.fields["text"] for example in read_examples(task, Source(path=str(path)))] == ["a film"]


def test_a_wanted_column_of_another_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"text": pa.array([3_000_000], pa.date32()), "label": ["good"]}), path)
    with pytest.raises(
        UserError, match=r"column 'text' is of type date32\[day\]; text, numbers or booleans are needed"
    ):
        list(read_examples(TASK, Source(path=str(path))))


def test_a_missing_column_is_told_with_all_columns_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"txt": ["a"], "other": [1], "label": ["good"]}), path)
    with pytest.raises(UserError, match="the row has: txt, other, label"):
        list(read_examples(TASK, Source(path=str(path))))


def big(tmp_path: Path, how: str) -> Path:
    path = tmp_path / f"{how}.parquet"
    long = "x" * (65 << 20 if how == "one" else 3 << 20)
    n = 1 if how == "one" else 200
    tables = {
        "one": {"text": [long], "label": ["good"]},
        "repeated": {
            "text": pa.array([long])
            .dictionary_encode()
            .take(pa.array([0] * n))
            .cast(pa.dictionary(pa.int32(), pa.string())),
            "label": ["good"] * n,
        },
        "list": {
            "text": pa.ListArray.from_arrays(
                pa.array(range(n + 1), pa.int32()),
                pa.array([long])
                .dictionary_encode()
                .take(pa.array([0] * n))
                .cast(pa.dictionary(pa.int32(), pa.string())),
            ),
            "label": ["good"] * n,
        },
    }
    pq.write_table(pa.table(tables[how]), path, compression="zstd")
    return path


@pytest.mark.parametrize(
    ("how", "says"), [("one", "unpack to 65 MiB"), ("repeated", "unpack to over"), ("list", "unpack to over")]
)
def test_a_small_file_that_unpacks_to_much_is_refused_in_bounded_memory(
    how: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_BOMB_BYTES", 2**27)
    path = big(tmp_path, how)
    task = TASK if how != "list" else TASK.model_copy(update={"columns": {"text": "text.0"}})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=says):
        for _ in read_examples(task, Source(path=str(path))):
            pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


def test_a_large_file_of_different_texts_is_read_in_little_memory(tmp_path: Path) -> None:
    path, n = tmp_path / "f.parquet", 50_000
    pq.write_table(pa.table({"text": [f"{i} " + "word " * 200 for i in range(n)], "label": ["good"] * n}), path)
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    largest = 0
    for number, _ in enumerate(read_examples(TASK, Source(path=str(path)))):
        largest = max(largest, pool.bytes_allocated() - before) if number % 500 == 0 else largest
        if number == 10_000:
            break
    assert largest < 16 << 20


def test_a_row_above_the_limit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"text": ["a film", "x" * 2**23], "label": ["good", "bad"]}), path)
    with pytest.raises(UserError, match="row 2: 8 MiB; a row may hold 4 MiB"):
        list(read_examples(TASK, Source(path=str(path))))


def test_a_table_of_a_run_that_unpacks_to_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_BOMB_BYTES", 2**27)
    run = Store(str(tmp_path))
    big(tmp_path, "repeated").rename(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="unpack to over"):
        run.read_table("t.parquet")


def test_a_table_of_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    kind = pa.struct([("a", pa.string()), ("b", pa.list_(pa.string()))])
    table = pa.table(
        {
            "id": ["x", None, "y"],
            "fields": pa.array([{"a": "1", "b": ["u", None]}, None, {"a": None, "b": []}], kind),
            "n": pa.array([1, None, 3], pa.int32()),
        }
    )
    run.write_table("t.parquet", table)
    assert run.read_table("t.parquet") == table
    assert run.read_table("t.parquet", table.schema.equals) == table
    with pytest.raises(UserError, match=r"its columns are id \(string\)"):
        run.read_table("t.parquet", SCORES.equals)


def test_no_other_module_reads_parquet() -> None:
    """By the syntax tree: every use of pyarrow's Parquet readers, of a Parquet reader of pandas, Ray or datasets,
    stands in parquet.py."""
    readers = {"read_parquet", "dataset", "read_feather", "read_table", "open_file", "open_stream"}
    found = []
    for file in sorted(Path("paft_ray").rglob("*.py")):
        if file == Path("paft_ray/files/parquet.py"):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if "parquet" in alias.name
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.ImportFrom)
                and "parquet" in (node.module or "")
                and not (node.module or "").startswith("paft_ray")
            ):
                found.append(f"{file}:{node.lineno}: from {node.module}")
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id in names and node.attr != "write_table":
                    found.append(f"{file}:{node.lineno}: {node.value.id}.{node.attr}")
                if node.value.id in ("pa", "pd", "ray", "feather", "orc") and node.attr in readers:
                    found.append(f"{file}:{node.lineno}: {node.value.id}.{node.attr}")
    assert not found


def unmeasured(how: str, n: int) -> pa.Array:
    """A column in a type that is not measured, whose text of 1 MiB comes n times and once in the file."""
    repeated = pa.array(["x" * 2**20]).dictionary_encode().take(pa.array([0] * n))
    if how == "map":
        return pa.MapArray.from_arrays(pa.array(range(n + 1), pa.int32()), pa.array(["k"] * n), repeated)
    if how == "fixed":
        return pa.FixedSizeListArray.from_arrays(repeated, 1)
    if how == "fixed in a struct":
        return pa.StructArray.from_arrays([pa.FixedSizeListArray.from_arrays(repeated, 1)], ["0"])
    return pa.ListViewArray.from_arrays(pa.array(range(n), pa.int32()), pa.array([1] * n, pa.int32()), repeated)


@pytest.mark.parametrize("how", ["map", "fixed", "fixed in a struct", "list view"])
def test_a_type_whose_bytes_are_not_measured_is_refused(how: str, tmp_path: Path) -> None:
    path, task = tmp_path / "t.parquet", TASK.model_copy(update={"columns": {"text": "text.0"}})
    pq.write_table(pa.table({"text": unmeasured(how, 50), "label": ["good"] * 50}), path, compression="zstd")
    with pytest.raises(UserError, match="text, numbers or booleans are needed"):
        list(read_examples(task, Source(path=str(path))))
    with pytest.raises(UserError, match="not the table that belongs there"):
        Store(str(tmp_path)).read_table("t.parquet")


def test_a_view_that_only_the_stored_schema_names_is_refused(tmp_path: Path) -> None:
    path, table = tmp_path / "t.parquet", pa.table({"text": ["x" * 99] * 9, "label": ["good"] * 9})
    stored = pa.schema([("text", pa.string_view()), ("label", pa.string())]).serialize().to_pybytes()
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(stored).decode()})
    with pytest.raises(UserError, match="string_view; text, numbers or booleans are needed"):
        list(read_examples(TASK, Source(path=str(path))))


def test_a_list_of_so_many_equal_values_that_they_fill_the_memory_is_refused(tmp_path: Path) -> None:
    n = 70_000_000
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"text": pa.ListArray.from_arrays(pa.array([0, n], pa.int32()), pa.nulls(n)), "label": ["good"]}), path
    )
    with pytest.raises(UserError, match="unpack to 66 MiB; write the file anew"):
        list(read_examples(TASK, Source(path=str(path))))
