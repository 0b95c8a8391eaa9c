"""Readers: kinds of files and places, names of columns, ids, and what is refused with its line."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paft_ray.config import DataConfig
from paft_ray.errors import UserError
from paft_ray.stages.prepare import divide, sources
from paft_ray.tasks.readers import content_hash, examples_to_table, read_examples, read_rows
from paft_ray.tasks.task import Example, Source, load_task

TASK = load_task("demo")
ROWS = [{"text": "fine, really", "label": "positive"}, {"text": "zwölf Nieten", "label": "negative"}]


def write(path: Path) -> str:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in ROWS))
    elif path.suffix == ".csv":
        path.write_text(
            "text,label\n" + "".join(f'"{row["text"]}",{row["label"]}\n' for row in ROWS), encoding="utf-8-sig"
        )
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    return str(path)


def refusal(path: Path, content: str | bytes, task: str = "demo") -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        list(read_examples(load_task(task), Source(path=str(path))))
    return str(caught.value)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_all_kinds_of_files_hold_the_same_rows(tmp_path: Path, name: str) -> None:
    found = list(read_examples(TASK, Source(path=write(tmp_path / name))))
    assert [(e.fields["text"], e.answer) for e in found] == [(row["text"], row["label"]) for row in ROWS]


def test_a_uri_of_a_pyarrow_filesystem_is_read(tmp_path: Path) -> None:
    assert [row for row, _ in read_rows("file://" + write(tmp_path / "a.jsonl"))] == ROWS


def test_rows_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\nnot json\n")
    rows = read_rows(str(path))
    assert next(rows) == (ROWS[0], f"{path}:1")
    with pytest.raises(UserError, match=r"a\.jsonl:2: not JSON"):
        next(rows)


@pytest.mark.parametrize(
    ("task", "row", "fields", "answer"),
    [
        (
            "hellaswag",
            {"ctx": "c", "endings": ["e", "f", "g", "h"], "label": "2"},
            {"ctx": "c", "A": "e", "B": "f", "C": "g", "D": "h"},
            "C",
        ),
        (
            "hellaswag",
            {"ctx": "c", "A": "e", "B": "f", "C": "g", "D": "h", "answer": "C"},
            {"ctx": "c", "A": "e", "B": "f", "C": "g", "D": "h"},
            "C",
        ),
        ("piqa", {"goal": "g", "sol1": "s", "sol2": "t", "label": 1}, {"goal": "g", "sol1": "s", "sol2": "t"}, "B"),
        ("piqa", {"goal": "g", "sol1": "s", "sol2": "t", "answer": "B"}, {"goal": "g", "sol1": "s", "sol2": "t"}, "B"),
        (
            "winogrande",
            {"sentence": "x", "option1": "a", "option2": "b", "answer": "2"},
            {"prompt": "x", "only_option1": "a", "only_option2": "b"},
            "B",
        ),
        (
            "winogrande",
            {"prompt": "x _", "only_option1": "a", "only_option2": "b", "answer": "A"},
            {"prompt": "x _", "only_option1": "a", "only_option2": "b"},
            "A",
        ),
        ("trec", {"text": "Who?", "coarse_label": 3, "fine_label": 9}, {"question": "Who?"}, "human"),
        ("trec", {"question": "Who?", "label": "human"}, {"question": "Who?"}, "human"),
        ("sst2", {"sentence": "ok", "label": 1, "idx": 0}, {"text": "ok"}, "positive"),
        ("race", {"article": "a", "question": "q", "options": ["w", "x", "y", "z"], "answer": "D"}, None, "D"),
        ("gsm8k", {"question": "q", "answer": "a\n#### 7"}, {"question": "q"}, "a\n#### 7"),
    ],
)
def test_rows_may_use_the_published_columns_or_the_tasks_own_names(
    tmp_path: Path, task: str, row: dict, fields: dict | None, answer: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row))
    (found,) = read_examples(load_task(task), Source(path=str(path)))
    assert (found.fields if fields else None, found.answer) == (fields, answer)


def test_given_ids_are_kept_and_content_ids_do_not_depend_on_the_order_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": 7, "text": "a", "label": "positive"}\n{"text": "b", "label": "positive"}\n{"label": "positive", '
        '"text": "b"}\n'
    )
    first, second, third = (e.id for e in read_examples(TASK, Source(path=str(path))))
    assert first == "7"
    assert second.removesuffix("-1") == third.removesuffix("-2")


def test_a_repeated_id_names_both_lines(tmp_path: Path) -> None:
    row = '{"id": "x", "text": "a", "label": "positive"}\n'
    path = tmp_path / "a.jsonl"
    assert (
        refusal(path, row + "\n" + row)
        == f"{path}:3: id 'x' stands already at {path}:1; ids must be unique (or leave them out)"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "half \\ud83d", "label": "positive"}', "a.jsonl:1: text holds half a character"),
        ("a.jsonl", "{}" * 2, "a.jsonl:1: not JSON"),
        ("a.jsonl", "[" * 100_000, "a.jsonl:1: not JSON"),
        ("a.jsonl", '{"text": true, "label": "positive"}', "text must be text or a number, found bool"),
        ("a.jsonl", "text,label\n".encode("utf-16"), "a.jsonl:1: not UTF-8"),
        ("a.jsonl", "\n\n", "holds no rows"),
        ("a.csv", "text,label\n", "holds no rows"),
        ("a.csv", "text,text,label\na,b,positive\n", "a.csv:1: the head names a column twice"),
        ("a.csv", "text,label\na,b,positive\n", "a.csv:2: the row has another number of columns"),
        ("a.csv", 'text,label\n"a"b,positive\n', "a.csv:2: not CSV"),
        ("a.csv", b"text,label\n\xe9,positive\n", "a.csv:2: not UTF-8"),
        ("a.parquet", b"PAR1", "not a Parquet file"),
        ("a.json.gz", b"x", "unknown kind of file; allowed: .jsonl, .csv, .parquet"),
    ],
)
def test_bad_rows_are_refused_with_file_line_and_remedy(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    assert message in refusal(tmp_path / name, content)


def test_a_reference_answer_without_its_number_is_refused(tmp_path: Path) -> None:
    assert "a.jsonl:1: the reference answer does not match pattern" in refusal(
        tmp_path / "a.jsonl", '{"question": "q", "answer": "seven"}', "gsm8k"
    )


@pytest.mark.parametrize(
    "uri",
    ["nowhere.jsonl", "/tmp", "s4://bucket/a.jsonl", "builtin:tasks/data/demo/none.jsonl", "file:///nowhere/a.jsonl"],
)
def test_what_cannot_be_reached_is_one_line(uri: str) -> None:
    with pytest.raises(UserError) as caught:
        list(read_rows(uri))
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_changed_file_has_another_content_hash(tmp_path: Path) -> None:
    source = Source(path=write(tmp_path / "a.jsonl"))
    before = content_hash(source)
    (tmp_path / "a.jsonl").write_text("{}")
    assert before != content_hash(source)
    assert content_hash(Source(dataset="some/set", split="train")) is None


def table(name: str, n: int) -> pa.Table:
    return examples_to_table(
        [Example(id=f"{name}{i}", fields={"text": str(i)}, answer="positive") for i in range(n)], TASK.fields
    )


def test_the_choice_of_rows_follows_the_seed_and_not_the_order_of_the_file() -> None:
    rows = table("r", 50)
    data = DataConfig(num_train=10, num_validation=5, num_test=5)
    first = divide({"train": rows}, data, seed=0, by_answer=True)
    assert divide({"train": rows.take(list(range(49, -1, -1)))}, data, seed=0, by_answer=True) == first
    assert divide({"train": rows}, data, seed=1, by_answer=True) != first
    more = divide({"train": rows}, DataConfig(num_train=20, num_validation=5, num_test=5), seed=0, by_answer=True)
    assert set(first["train"]["id"].to_pylist()) < set(more["train"]["id"].to_pylist())


def test_more_rows_than_there_are_cannot_be_asked_for() -> None:
    with pytest.raises(UserError, match=r"data\.num_train=60: only 50 rows are there"):
        divide(
            {"train": table("r", 50), "validation": table("v", 5), "test": table("t", 5)},
            DataConfig(num_train=60),
            seed=0,
            by_answer=True,
        )
    with pytest.raises(UserError, match="50 training rows are too few to keep back 60 for test"):
        divide({"train": table("r", 50)}, DataConfig(num_test=60), seed=0, by_answer=True)
    assert (
        divide(
            {"train": table("r", 9), "validation": table("v", 5), "test": table("t", 5)},
            DataConfig(),
            seed=0,
            by_answer=True,
        )["validation"].num_rows
        == 5
    )


def test_a_file_of_the_config_takes_the_place_of_the_tasks_own_source() -> None:
    found = sources(TASK, DataConfig(test="mine.csv"))
    assert found["test"] == Source(path="mine.csv")
    assert found["train"] == TASK.sources["train"]
    with pytest.raises(UserError, match="no training rows"):
        sources(TASK.model_copy(update={"sources": {}}), DataConfig())
