"""Which stages share engines, and when those end."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from paft_ray.config import load_config
from paft_ray.inference import engine_pool
from paft_ray.stages import pipeline
from paft_ray.stages.registry import STAGES, Stage, stages_of
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.store import Store


@pytest.fixture
def resolved(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> ResolvedRun:
    """The demo, its model not read."""
    config = load_config("jobs/configs/demo.yaml")
    monkeypatch.setattr(ResolvedRun, "model", SimpleNamespace(path=str(tmp_path)))
    monkeypatch.setattr(pipeline, "read_config", lambda path: {"max_position_embeddings": 220})
    return ResolvedRun.of(config, Store.open(str(tmp_path), "t"))


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened: stages, ends of engines, and begin and end of sharing."""
    found: list[str] = []

    @contextmanager
    def shared(base: Any, max_model_len: int) -> Iterator[Any]:
        found.append(f"shared to {max_model_len} tokens")
        yield SimpleNamespace(stop=lambda: found.append("stop"))
        found.append("ended")

    monkeypatch.setattr(engine_pool, "shared_engines", shared)
    monkeypatch.setattr(Stage, "make", lambda self, resolved, force: found.append(self.name) or {})
    return found


def test_a_run_has_one_pool_and_no_engine_while_a_stage_runs_that_does_not_ask_it(
    resolved: ResolvedRun, events: list[str]
) -> None:
    pipeline.run_all(resolved)
    assert [stage.name for stage in stages_of("run", resolved.config)] == [event for event in events if event in STAGES]
    around = [events[events.index(name) - 1] for name in ("score", "train", "evaluate", "report")]
    assert around == ["synthesize", "stop", "train", "stop"]
    assert (events[0], events[-1]) == ("shared to 220 tokens", "ended"), "no longer than the model reads"


@pytest.mark.parametrize(
    ("name", "shares"), [("synthesize", True), ("evaluate", True), ("train", False), ("sweep", False)]
)
def test_a_stage_of_its_own_shares_among_its_rounds_unless_it_trains_as_well(
    resolved: ResolvedRun, events: list[str], name: str, shares: bool
) -> None:
    pipeline.run_stage(STAGES[name], resolved)
    assert (len(events) == 3) == shares
    assert name in events
