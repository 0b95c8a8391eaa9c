"""Stage `prepare` on real Ray Data: rows are streamed and divided, and a bad row far down is a user error with its
line."""

from pathlib import Path

import pytest

from paft_ray.config import parse_config
from paft_ray.errors import UserError
from paft_ray.stages import prepare
from paft_ray.storage.store import Store
from tests.support.resolved import resolved

GOOD = '{"text": "row NUMBER", "label": "positive"}\n'


def write(path: Path, rows: int, ending: str = "") -> str:
    path.write_text("".join(GOOD.replace("NUMBER", str(i)) for i in range(rows)) + ending)
    return str(path)


def test_rows_of_several_blocks_arrive_once_and_repeats_across_splits_are_counted(
    ray_session: None, tmp_path: Path
) -> None:
    data = {
        "train": write(tmp_path / "a.jsonl", 9000),
        "validation": write(tmp_path / "b.jsonl", 150),
        "test": "builtin:tasks/data/demo/test.jsonl",
    }
    config = parse_config({"name": "a", "task": "demo", "storage": str(tmp_path), "data": data}, "test")
    run = Store.open(str(tmp_path), "a")
    manifest = prepare.run(resolved(config, run))
    assert manifest["counts"] == {"train": 9000, "validation": 100, "test": 160}
    assert manifest["also_in_train"] == {"validation": 100, "test": 0}
    assert {e.fields["text"] for e in prepare.examples_of(run, "train")} == {f"row {i}" for i in range(9000)}
    write(tmp_path / "a.jsonl", 9001)
    with pytest.raises(UserError, match=r"stage prepare of run a was made with other settings \(sources\.train"):
        prepare.run(resolved(config, run))


def test_a_bad_row_far_down_is_a_user_error_with_file_and_line(ray_session: None, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", 5000, '{"text": "a", "label": "neutral"}\n')
    config = parse_config({"name": "b", "task": "demo", "storage": str(tmp_path), "data": {"train": path}}, "test")
    with pytest.raises(UserError) as caught:
        prepare.run(resolved(config, Store.open(str(tmp_path), "b")))
    assert (
        str(caught.value)
        == f"{path}:5001: unknown label 'neutral'; allowed: negative, positive; fix the row or the labels of task demo"
    )
