"""Trackers without a server: what a configuration may say, ids, and a tracker that fails."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from paft_ray.config import TrackingConfig, parse_config
from paft_ray.errors import UserError
from paft_ray.storage.store import Store
from paft_ray.tracking.tracker_run import Rows, TrackerRun, scalars, tracker_id
from paft_ray.tracking.trackers import Trackers, check


@pytest.mark.parametrize(
    ("tracking", "message"),
    [
        ({"mlflow": "http://me:hunter2@host:5000"}, "the address holds credentials"),
        ({"mlflow": "https://host/?token=hunter2"}, "the address holds credentials"),
        ({"mlflow": "sqlite:///hunter2.db"}, "the address of a server is needed"),
        ({"mlflow": "http:/hunter2"}, "the address of a server is needed"),
        ({"mlflow": ""}, "the address of a server is needed"),
        ({"wandb": ""}, "tracking.wandb"),
        ({"wandb": "team/project"}, "tracking.wandb"),
        ({"experiment": ""}, "tracking.experiment"),
        ({"mlfow": "http://hunter2"}, "did you mean tracking.mlflow"),
    ],
)
def test_a_wrong_tracker_is_refused_without_showing_what_may_be_a_password(
    tracking: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        parse_config({"name": "a", "task": "demo", "tracking": tracking}, "x")
    assert "hunter2" not in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_tracker_that_is_not_installed_is_refused_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, tracking in (
        ("mlflow", TrackingConfig(mlflow="http://host")),
        ("wandb", TrackingConfig(wandb="project")),
    ):
        with pytest.raises(UserError, match=rf"tracking.{name}=.*pip install 'paft-ray\[tracking\]'"):
            check(tracking)


def test_nothing_is_written_where_no_tracker_is_asked_for(tmp_path: Path) -> None:
    assert TrackerRun.of(TrackingConfig(), Store(str(tmp_path)), name="a", group="b", label="[a]", params={}) is None
    assert list(tmp_path.iterdir()) == []


def test_an_id_lives_as_long_as_the_checkpoints_beside_it(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    stores = [Store(run.uri(f"train/paft-s0/checkpoints/{fingerprint}")) for fingerprint in ("f", "g")]
    first, other = map(tracker_id, stores)
    assert first != other
    assert tracker_id(stores[0]) == first
    run.delete("train/paft-s0")  # as --force does
    assert tracker_id(stores[0]) != first


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"id": 7}', b'{"id": "../x"}'])
def test_a_broken_id_is_refused_in_one_line(tmp_path: Path, text: bytes) -> None:
    store = Store(str(tmp_path))
    store.write_bytes("tracking.json", text)
    with pytest.raises(UserError, match=r"tracking\.json") as refused:
        tracker_id(store)
    assert "\n" not in str(refused.value)


def test_settings_become_flat_parameters(tmp_path: Path) -> None:
    params = {"train": {"lora": {"rank": 8}, "k": 4}, "seed": 0}
    shown = TrackerRun.of(
        TrackingConfig(wandb="p"),
        Store(str(tmp_path)),
        name="paft-s0",
        group="demo",
        label="[train paft/seed0]",
        params=params,
    )
    assert shown
    assert shown.params == {"train.lora.rank": 8, "train.k": 4, "seed": 0}


class Flaky:
    """A tracker that fails the first `failures` times and keeps what it got in `held`."""

    def __init__(self, held: list[int], failures: list[int]) -> None:
        self.held, self.failures = held, failures

    def send(self, rows: Rows) -> None:
        if self.failures:
            self.failures.pop()
            raise ConnectionError("the\ncable")
        self.held.extend(row["step"] for row in rows if row["step"] > len(self.held))

    def show(self, metrics: Mapping[str, float], page: str) -> None:
        raise AssertionError

    def close(self) -> None:
        self.held.append(0)


def test_a_tracker_that_fails_is_reported_once_and_stops_neither_the_training_nor_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = TrackerRun.of(
        TrackingConfig(wandb="p"),
        Store(str(tmp_path)),
        name="paft-s0",
        group="demo",
        label="[train paft/seed0]",
        params={},
    )
    good: list[int] = []
    bad: list[int] = []
    failures = [0, 0]
    trackers = Trackers(shown, {"bad": lambda _: Flaky(bad, failures), "good": lambda _: Flaky(good, [])})
    rows: list[dict[str, Any]] = [{"step": step} for step in (1, 2, 3)]
    for last in (1, 2, 3):
        trackers.send(rows[:last])
    trackers.close()
    assert (good, bad) == ([1, 2, 3, 0], [1, 2, 3, 0])
    assert (
        capsys.readouterr().out.partition(" ")[2]
        == "warning: [train paft/seed0] bad does not take the metrics (the cable); they stay in the run and are sent "
        "again at the next chance\n"
    )


def test_a_secret_of_the_environment_is_in_nothing_that_is_handed_to_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "hunter2")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hunter2")
    config = TrackingConfig(wandb="p", mlflow="http://host")
    shown = TrackerRun.of(config, Store(str(tmp_path)), name="a", group="b", label="[a]", params={})
    assert "hunter2" not in repr(shown) + json.dumps(config.model_dump(mode="json"))


def test_what_was_not_measured_is_no_scalar() -> None:
    assert scalars({"step": 3, "loss": 0.5, "grad_norm": None}) == {"train/loss": 0.5}
