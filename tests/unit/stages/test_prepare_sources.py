"""The commit of a data set is part of the key of stage prepare, and is what its rows are read at."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paft_ray.config import Config
from paft_ray.errors import UserError
from paft_ray.stages import prepare
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Source
from tests.support.made_stage import finish_stage

ONE, TWO = "1" * 40, "2" * 40
TRAIN, TEST = Source(dataset="some/set", split="train"), Source(path="builtin:demo/test.jsonl")


class Hub:
    def __init__(self, sha: str | None) -> None:
        self.sha = sha

    def dataset_info(self, repo_id: str, *, revision: str | None, timeout: float | None) -> Any:
        if self.sha is None:
            raise OSError("offline")
        return SimpleNamespace(sha=self.sha)


def pinned(run: Store, sha: str | None, **options: bool) -> Source:
    found = prepare._pinned({"train": TRAIN, "test": TEST}, run, client=Hub(sha), **options)
    assert found["test"] == TEST, "a file has no commit"
    return found["train"]


def test_rows_are_read_at_the_commit_that_is_in_the_key(tmp_path: Path) -> None:
    source = pinned(Store(str(tmp_path)), ONE)
    assert source.revision == ONE
    assert prepare._identity(source) == {"commit": ONE}


def test_offline_the_commit_of_the_finished_stage_is_taken(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    assert prepare._identity(pinned(run, None)) == {"commit": None}, "no finished stage: unknown"
    finish_stage(run, "prepare", {}, key={"sources": {"train": {"commit": ONE}}})
    assert pinned(run, None).revision == ONE
    assert pinned(run, TWO).revision == TWO, "the hub is asked first"
    assert pinned(run, None, force=True).revision is None, "--force reads the rows anew"


@pytest.mark.parametrize("key", [{}, {"sources": None}, {"sources": {"train": "0123"}}])
def test_a_manifest_without_a_commit_names_none(tmp_path: Path, key: object) -> None:
    run = Store(str(tmp_path))
    finish_stage(run, "prepare", {}, key=key)
    assert pinned(run, None).revision is None


@pytest.mark.parametrize("damaged", [None, [], {"key": None}])
def test_a_damaged_manifest_is_refused(tmp_path: Path, damaged: object) -> None:
    run = Store(str(tmp_path))
    run.write_json("prepare/manifest.json", damaged)
    with pytest.raises(UserError, match=r"prepare/manifest\.json is no manifest of stage prepare"):
        pinned(run, None)


def test_a_branch_that_moved_is_a_named_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, at = Store.at(str(tmp_path / "r")), []
    rows = {"train": TRAIN, "test": TRAIN.model_copy(update={"split": "test"})}
    monkeypatch.setattr(prepare, "sources", lambda task, data: rows)
    monkeypatch.setattr(prepare, "resolved_commit", lambda source, client=None: at[-1])
    monkeypatch.setattr(prepare, "_prepare", lambda data, seed, task, found, run: {"read": found["train"].revision})
    resolved = ResolvedRun.of(Config(name="r", task="demo", data={"num_test": 5}), run)
    at.append(ONE)
    assert prepare.run(resolved)["read"] == ONE
    assert prepare.run(resolved)["read"] == ONE
    at.append(TWO)
    with pytest.raises(UserError, match=r"sources\.test\.commit: .1{40}. -> .2{40}."):
        prepare.run(resolved)
