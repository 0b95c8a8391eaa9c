"""The commit of a Hugging Face data set, asked of a fake client: no test reaches a hub."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from paft_ray.errors import UserError
from paft_ray.tasks.hub_datasets import dataset_rows, resolved_commit
from paft_ray.tasks.task import Source

COMMIT, OTHER = "a" * 40, "b" * 40


class Hub:
    """A hub with one data set whose branch stands at a commit, or that answers with an error."""

    def __init__(self, sha: Any = COMMIT) -> None:
        self.sha, self.asked = sha, []

    def dataset_info(self, repo_id: str, *, revision: str | None, timeout: float | None) -> Any:
        self.asked.append((repo_id, revision))
        if isinstance(self.sha, Exception):
            raise self.sha
        return SimpleNamespace(sha=self.sha)


def source(revision: str | None = None) -> Source:
    return Source(dataset="some/set", split="train", revision=revision)


@pytest.mark.parametrize("revision", [None, "main", "refs/convert/parquet"])
def test_a_branch_is_resolved_to_the_commit_where_it_stands(revision: str | None) -> None:
    hub = Hub()
    assert resolved_commit(source(revision), hub) == COMMIT
    assert hub.asked == [("some/set", revision)]


def test_a_commit_is_not_asked_for() -> None:
    hub = Hub()
    assert resolved_commit(source(OTHER), hub) == OTHER
    assert hub.asked == []


@pytest.mark.parametrize("answer", [OSError("offline"), ValueError("no such name"), RuntimeError(), None, 5, "main"])
def test_where_the_hub_does_not_say_the_commit_is_unknown(answer: Any) -> None:
    assert resolved_commit(source(), Hub(answer)) is None


def test_offline_the_commit_is_unknown_without_a_wait() -> None:
    assert resolved_commit(source()) is None, "tests run with HF_HUB_OFFLINE=1"


def test_a_file_has_no_commit() -> None:
    assert resolved_commit(Source(path="a.jsonl"), Hub()) is None


class _ForeignError(Exception):
    """As a client for http has of its own: neither `OSError` nor `ValueError`."""


def test_whatever_a_data_set_raises_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(*args: object, **kwargs: object) -> Iterator[dict[str, str]]:
        assert kwargs["revision"] == COMMIT
        yield {"text": "one"}
        raise _ForeignError("two\nlines")

    monkeypatch.setattr("datasets.load_dataset", rows)
    found = dataset_rows(source(COMMIT))
    assert next(found) == ({"text": "one"}, "data set some/set (train): row 1")
    with pytest.raises(UserError, match=r"cannot be fetched \(two lines\)"):
        next(found)
