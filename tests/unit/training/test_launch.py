"""How often a worker group starts again: failures count anew where there is a new checkpoint."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.train import TrainingFailedError

from paft_ray.training import launch


class Runs:
    """In place of Ray Train: runs that end after these checkpoints, the last one without an error."""

    def __init__(self, *newest: int, fails: bool) -> None:
        self.newest, self.fails = list(newest), fails
        self.step, self.started, self.deleted = 0, 0, 0

    def fit(self) -> None:
        self.started += 1
        self.step = self.newest.pop(0)
        if self.newest or self.fails:
            raise TrainingFailedError("a worker is gone")

    def delete(self, name: str) -> None:
        assert name == "ray"
        self.deleted += 1


def trained(monkeypatch: pytest.MonkeyPatch, runs: Runs, max_failures: int = 2) -> None:
    monkeypatch.setattr(launch, "_trainer", lambda *_, **__: runs)
    monkeypatch.setattr(launch, "_written", lambda _: [0, runs.step])
    out = SimpleNamespace(uri=lambda _: "ray", delete=runs.delete)
    first: Any = SimpleNamespace(config=SimpleNamespace(max_failures=max_failures), out=out)
    launch._fit_while_it_gets_on({}, {}, first, ())


def test_a_training_that_gets_on_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(10, 20, 50, fails=False)
    trained(monkeypatch, runs)
    assert (runs.started, runs.deleted) == (3, 2)


def test_one_that_does_not_get_on_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(10, 10, fails=True)
    with pytest.raises(TrainingFailedError):
        trained(monkeypatch, runs)
    assert runs.started == 2


def test_a_checkpoint_that_was_removed_is_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(20, 10, 30, fails=True)
    with pytest.raises(TrainingFailedError):
        trained(monkeypatch, runs)
    assert runs.started == 2


def test_without_a_restart_allowed_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(10, 20, fails=True)
    with pytest.raises(TrainingFailedError):
        trained(monkeypatch, runs, max_failures=0)
    assert runs.started == 1
