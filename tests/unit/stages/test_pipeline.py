"""Which stages share engines, and when those end."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from paft_ray.config import Config, load_config
from paft_ray.errors import StageError
from paft_ray.inference import engine_pool
from paft_ray.stages import pipeline
from paft_ray.stages.registry import STAGES, Stage, stages_of
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.outputs import manifest_path
from paft_ray.storage.store import Store


@pytest.fixture
def resolved(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> ResolvedRun:
    """The demo, its model not read."""
    config = load_config("jobs/configs/demo.yaml")
    monkeypatch.setattr(ResolvedRun, "model", SimpleNamespace(path=str(tmp_path)))
    monkeypatch.setattr(pipeline, "most_tokens", lambda path: 200)
    return ResolvedRun.of(config, Store.open(str(tmp_path), "t"))


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened: stages, ends of engines, and begin and end of sharing."""
    found: list[str] = []

    @contextmanager
    def shared(base: Any, max_model_len: int) -> Iterator[Any]:
        found.append(f"shared to {max_model_len} tokens")
        yield SimpleNamespace(stop=lambda: found.append("stop"), running=SimpleNamespace(base=base))
        found.append("ended")

    monkeypatch.setattr(engine_pool, "shared_engines", shared)
    monkeypatch.setattr(Stage, "make", lambda self, resolved, force: found.append(self.name) or {})
    monkeypatch.setattr(pipeline, "is_own", lambda: True)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0})
    return found


@pytest.mark.parametrize(
    ("room", "before"),
    [(True, ["synthesize", "score", "train", "stop"]), (False, ["synthesize", "stop", "train", "stop"])],
)
def test_the_engines_of_a_run_end_before_a_training_without_room_and_after_the_last_stage_that_asks_them(
    resolved: ResolvedRun, events: list[str], monkeypatch: pytest.MonkeyPatch, room: bool, before: list[str]
) -> None:
    def have_room(config: Config, path: str, machine: dict[str, float]) -> bool:
        assert (config, path, machine) == (resolved.config, resolved.model.path, {"CPU": 4.0})
        return room

    monkeypatch.setattr(pipeline, "have_room", have_room)
    pipeline.run_all(resolved)
    assert [event for event in events if event in STAGES] == [stage.name for stage in stages_of("run", resolved.config)]
    assert [events[events.index(name) - 1] for name in ("score", "train", "evaluate", "report")] == before
    assert (events[0], events[-1]) == ("shared to 200 tokens", "ended"), "no longer than the model reads"


def test_engines_of_another_model_or_on_a_cluster_never_wait_for_a_training(
    resolved: ResolvedRun, events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "have_room", lambda *_: True)
    other = SimpleNamespace(running=SimpleNamespace(base="a generator"))
    assert not pipeline._may_wait(other, resolved)
    assert not pipeline._may_wait(SimpleNamespace(running=None), resolved)
    ours = SimpleNamespace(running=SimpleNamespace(base=resolved.model))
    assert pipeline._may_wait(ours, resolved)
    monkeypatch.setattr(pipeline, "is_own", lambda: False)
    assert not pipeline._may_wait(ours, resolved), "another job may wait for what they hold"


def test_a_forced_run_that_ends_on_the_way_is_resumed_without_force(
    resolved: ResolvedRun, events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was finished before it does not count, for it is of before."""
    run = resolved.store
    for folder in ("prepare", "train", "train/paft-s0", "evaluate"):
        run.write_json(manifest_path(folder), {})

    def fails(self: Stage, resolved: ResolvedRun, force: bool) -> Any:
        raise StageError("ended")

    monkeypatch.setattr(pipeline, "have_room", lambda *_: True)
    pipeline.run_all(resolved)
    assert run.exists(manifest_path("evaluate"))
    monkeypatch.setattr(Stage, "make", fails)
    with pytest.raises(StageError):
        pipeline.run_all(resolved, force=True)
    assert not any(run.exists(manifest_path(folder)) for folder in ("prepare", "train", "train/paft-s0", "evaluate"))


@pytest.mark.parametrize(
    ("name", "shares"), [("synthesize", True), ("evaluate", True), ("train", False), ("sweep", False)]
)
def test_a_stage_of_its_own_shares_among_its_rounds_unless_it_trains_as_well(
    resolved: ResolvedRun, events: list[str], name: str, shares: bool
) -> None:
    pipeline.run_stage(STAGES[name], resolved)
    assert (len(events) == 3) == shares
    assert name in events
