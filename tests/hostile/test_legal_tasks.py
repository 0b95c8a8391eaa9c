"""Tasks and rows as people have them: legal however the file spells them, and read to the same examples."""

import csv
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paft_ray.errors import UserError
from paft_ray.tasks.readers import read_examples
from paft_ray.tasks.task import Source, Task, load_task

KINDS = ("a.jsonl", "a.csv", "a.parquet")
COMPOSED, DECOMPOSED = "négatif", unicodedata.normalize("NFD", "négatif")


def choice(labels: Any, **more: Any) -> Task:
    return Task(name="t", kind="choice", description="d", fields={"text": "the text"}, labels=labels, **more)


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as stream:
            table = csv.DictWriter(stream, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def read(task: Task, path: str) -> list[tuple[dict[str, str], str]]:
    return [(dict(example.fields), example.answer) for example in read_examples(task, Source(path=path))]


def answers(task: Task, path: str) -> list[str]:
    return [answer for _, answer in read(task, path)]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "labels", [{"true": "yes", "false": "no"}, {"True": "yes", "False": "no"}, {"TRUE": "yes", "FALSE": "no"}]
)
def test_booleans_are_labels_in_every_kind_of_file(tmp_path: Path, name: str, labels: dict[str, str]) -> None:
    assert answers(
        choice(labels), written(tmp_path / name, [{"text": "x", "label": True}, {"text": "y", "label": False}])
    ) == ["yes", "no"]


@pytest.mark.parametrize("value", ["true", "True", "TRUE", True, np.True_])
def test_every_spelling_of_a_boolean_is_one_value(value: Any) -> None:
    task = choice({"true": "yes", "false": "no"})
    assert task.example({"text": "x", "label": value}, "here").answer == "yes"


def test_spellings_that_the_task_tells_apart_stay_apart() -> None:
    task = choice({"true": "a", "True": "b", "1": "c", "1.0": "d"})
    found = [
        task.example({"text": "x", "label": value}, "here").answer for value in ("true", "True", "1", "1.0", 1, 1.0)
    ]
    assert found == ["a", "b", "c", "d", "c", "d"]
    with pytest.raises(UserError, match="unknown label"):
        choice({"TRUE": "a", "true": "b"}).example({"text": "x", "label": "True"}, "here")


@pytest.mark.parametrize("value", [0, 0.0, "0", "0.0", np.int64(0), np.float32(0), np.uint8(0)])
def test_whole_numbers_are_labels_whatever_their_type(value: Any) -> None:
    assert choice({"0": "no", "1": "yes"}).example({"text": "x", "label": value}, "here").answer == "no"
    assert choice({0: "no", 1: "yes"}).example({"text": "x", "label": value}, "here").answer == "no"


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.int8(), pa.float64(), pa.float32(), pa.string(), pa.dictionary(pa.int32(), pa.string())]
)
def test_labels_of_every_column_type_of_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    values = ["0", "1"] if "string" in str(kind) else [0, 1]
    pq.write_table(pa.table({"text": ["x", "y"], "label": pa.array(values, kind)}), tmp_path / "a.parquet")
    assert answers(choice({"0": "no", "1": "yes"}), str(tmp_path / "a.parquet")) == ["no", "yes"]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("label", "value"),
    [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED), ("がい", unicodedata.normalize("NFD", "がい")), ("Å", "\u212b")],
)
def test_a_label_in_another_unicode_form_is_the_label(tmp_path: Path, name: str, label: str, value: str) -> None:
    task = choice(["positif", label])
    assert answers(
        task, written(tmp_path / name, [{"text": "x", "label": value}, {"text": "y", "label": "positif"}])
    ) == [label, "positif"]
    assert task.grader.parse_strict(f" {value}\n") == task.grader.parse(f" {value}\n") == label
    assert task.grader.parse(value) == label


def test_a_value_in_another_unicode_form_is_mapped() -> None:
    task = choice({COMPOSED: "negative", "positif": "positive"})
    assert task.example({"text": "x", "label": DECOMPOSED}, "here").answer == "negative"


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("text", "label"),
    [("meta.text", "meta.label"), ("a.b.c", "x."), (".hidden", "0.1"), ("data.0.text", "data.0.label")],
)
def test_a_column_with_a_dot_in_its_name_is_that_column(tmp_path: Path, name: str, text: str, label: str) -> None:
    task = choice(["a", "b"], answer=label, columns={"text": text})
    assert read(task, written(tmp_path / name, [{text: "x", label: "a"}, {text: "y", label: "b"}])) == [
        ({"text": "x"}, "a"),
        ({"text": "y"}, "b"),
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_the_column_itself_comes_before_the_path_and_both_are_found(tmp_path: Path, name: str) -> None:
    rows = [{"meta.text": "column", "meta": {"text": "path", "label": "a"}, "list.of": [{"label": "b"}]}]
    path = written(tmp_path / name, rows)
    assert read(choice(["a", "b"], answer="meta.label", columns={"text": "meta.text"}), path) == [
        ({"text": "column"}, "a")
    ]
    assert read(choice(["a", "b"], answer="list.of.0.label", columns={"text": "meta.text"}), path) == [
        ({"text": "column"}, "b")
    ]


@pytest.mark.parametrize("head", ["text, label", " text , label ", "text ,label", '"text", "label"', "label, text"])
def test_spaces_in_a_head_line_are_no_part_of_a_name(tmp_path: Path, head: str) -> None:
    cells = ["a", "one  two"] if head.startswith("label") else ["one  two", "a"]
    (tmp_path / "a.csv").write_text(f"{head}\n{', '.join(cells)}\n")
    assert read(choice(["a", "b"]), str(tmp_path / "a.csv")) == [({"text": "one  two"}, "a")]


def test_without_spaces_in_the_head_line_cells_keep_theirs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n  x ,a\n")
    assert read(choice(["a", "b"]), str(tmp_path / "a.csv")) == [({"text": "  x "}, "a")]


@pytest.mark.parametrize(
    ("label", "value"),
    [("'007'", "007"), ("'12:30'", "12:30"), ("'on'", "on"), ("'1_000'", "1_000"), ("2024", 2024), ("'true'", True)],
)
def test_a_label_in_quotes_is_what_is_written(tmp_path: Path, label: str, value: Any) -> None:
    task = (
        f"name: t\nkind: choice\ndescription: d\nfields: {{text: the text, 'on': a switch}}\nlabels: [{label}, "
        "other]\nmax_answer_tokens: 0x10\n"
    )
    (tmp_path / "t.yaml").write_text(task)
    loaded = load_task(str(tmp_path / "t.yaml"))
    assert loaded.example({"text": "x", "on": "y", "label": value}, "here").answer == label.strip("'")
    assert loaded.max_answer_tokens == 16


@pytest.mark.parametrize(
    ("task", "row", "answer"),
    [
        ("trec", {"question": "Who?", "label": "human"}, "human"),
        ("trec", {"text": "Who?", "coarse_label": 3, "label": "entity", "question": "other"}, "human"),
        ("piqa", {"goal": "g", "sol1": "s", "sol2": "t", "answer": "B"}, "B"),
        ("demo", {"text": "fine", "answer": "positive"}, "positive"),
        ("sst2", {"text": "fine", "label": "positive"}, "positive"),
    ],
)
def test_a_built_in_task_reads_the_project_s_own_format_also_in_a_worker(
    tmp_path: Path, task: str, row: dict[str, Any], answer: str
) -> None:
    path = written(tmp_path / "a.jsonl", [row, row])
    sent = Task.model_validate_json(load_task(task).model_dump_json())
    assert answers(sent, path) == [answer, answer]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("stated", "held"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_column_is_found_in_either_unicode_form_of_its_name(
    tmp_path: Path, name: str, stated: str, held: str
) -> None:
    task = choice(["a", "b"], columns={"text": f"{stated}.x"}, answer=f"{stated} 1")
    assert read(task, written(tmp_path / name, [{f"{held}.x": "x", f"{held} 1": "a"}])) == [({"text": "x"}, "a")]


def test_of_two_columns_whose_names_look_the_same_the_exact_one_counts(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [{COMPOSED: "a", DECOMPOSED: "b", "text": "x"}])
    assert [answers(choice(["a", "b"], answer=stated), path) for stated in (COMPOSED, DECOMPOSED)] == [["a"], ["b"]]


@pytest.mark.parametrize(
    "value",
    [pa.array([1], pa.decimal128(5, 2)), pa.array([1], pa.date32()), pa.array([1], pa.duration("s"))],
    ids=["decimal", "date", "duration"],
)
def test_a_label_of_a_type_that_is_no_text_is_named_with_its_type(tmp_path: Path, value: pa.Array) -> None:
    pq.write_table(pa.table({"text": ["x"], "label": value}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"column 'label' is of type \w+.*write it as text"):
        read(choice(["1", "2"]), str(tmp_path / "a.parquet"))
    pq.write_table(pa.table({"text": ["x"], "label": value, "gold": ["1"]}), tmp_path / "a.parquet")
    assert answers(choice(["1", "2"], answer="gold"), str(tmp_path / "a.parquet")) == ["1"]
