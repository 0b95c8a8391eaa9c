"""Tasks and readers: what is read, and what is refused with file, line and remedy."""

import json
from pathlib import Path

import pytest

from paft_ray.config import DataConfig, builtin
from paft_ray.errors import UserError
from paft_ray.stages.prepare import divide
from paft_ray.tasks.example import Example
from paft_ray.tasks.readers import examples_from_table, examples_to_table, read_examples
from paft_ray.tasks.task import Source, load_task

TASK = load_task("demo")
GOOD = {"text": "fine film", "label": "positive"}


def examples(path: Path) -> list[str]:
    return [e.id for e in read_examples(TASK, Source(path=str(path)))]


def test_every_built_in_task_loads() -> None:
    names = sorted(p.stem for p in builtin("tasks", "builtin").glob("*.yaml"))
    assert names == ["demo", "gsm8k", "hellaswag", "piqa", "race", "sst2", "trec", "winogrande"]
    assert all(load_task(name).name == name for name in names)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x", "label": "positive"}\n{"text": ', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", b'["x"]\n', r"a\.jsonl:1: an object is needed"),
        ("a.jsonl", b"", "holds no rows"),
        ("a.jsonl", b'{"label": "positive"}\n', r"a\.jsonl:1: no column 'text'"),
        ("a.jsonl", b'{"text": "x", "label": "great"}\n', r"unknown label 'great'; allowed: negative, positive"),
        ("a.jsonl", b'{"text": "  ", "label": "positive"}\n', "text is empty"),
        ("a.jsonl", b'{"text": {"a": 1}, "label": "positive"}\n', "text must be text or a number, found dict"),
        (
            "a.jsonl",
            b'{"text": "x", "label": "positive"}\n{"text": "\xff", "label": "positive"}\n',
            r"a\.jsonl:2: not UTF-8",
        ),
        (
            "a.jsonl",
            b'{"id": 1, "text": "x", "label": "positive"}\n{"id": 1, "text": "y", "label": "positive"}\n',
            r"a\.jsonl:2: id '1' stands already at",
        ),
        ("a.csv", b"text,label\nx\n", r"a\.csv:2: the row has another number of columns"),
        ("a.parquet", b"no parquet", "not a Parquet file"),
        ("a.txt", b"x", "unknown kind of file"),
    ],
)
def test_bad_data_is_refused_with_its_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        examples(tmp_path / name)


def test_rows_without_an_id_get_a_content_id_and_their_occurrence(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(GOOD) for _ in range(3)))
    ids = examples(path)
    assert len(set(ids)) == 3
    assert {i.rsplit("-", 1)[0] for i in ids} == {ids[0].rsplit("-", 1)[0]}


def test_csv_rows_hold_commas_and_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"one, two\nthree",positive\n')
    assert [e.fields["text"] for e in read_examples(TASK, Source(path=str(path)))] == ["one, two\nthree"]


def test_examples_survive_their_table() -> None:
    rows = list(read_examples(TASK, Source(path="builtin:tasks/data/demo/test.jsonl")))
    assert examples_from_table(examples_to_table(rows, TASK.fields)) == rows


def test_splits_kept_back_from_training_are_disjoint() -> None:
    rows = list(read_examples(TASK, Source(path="builtin:tasks/data/demo/train.jsonl")))
    parts = divide(
        {"train": examples_to_table(rows, TASK.fields)},
        DataConfig(num_train=200, num_validation=50, num_test=60),
        seed=1,
        by_answer=True,
    )
    ids = [set(parts[name]["id"].to_pylist()) for name in ("train", "validation", "test")]
    assert [len(i) for i in ids] == [200, 50, 60]
    assert len(ids[0] | ids[1] | ids[2]) == 310


@pytest.mark.parametrize(
    ("text", "parsed", "score"),
    [("so it is #### 1,234", "1234", 1), ("#### 12", "12", 0), ("twelve", None, None)],
)
def test_free_answers_are_parsed_and_scored(text: str, parsed: str | None, score: int | None) -> None:
    grader, example = load_task("gsm8k").grader, Example(id="1", fields={}, answer="work\n#### 1234")
    assert grader.parse(text) == parsed
    assert parsed is None or grader.score(parsed, example) == score
