"""Stages that share an engine: answers are those of an engine of one's own, starts are counted, and nothing is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from paft_ray.config import EngineConfig
from paft_ray.inference.answer_cache import AnswerCache
from paft_ray.inference.engine_pool import shared_engines
from paft_ray.models.local import find_model
from paft_ray.storage.store import Store
from tests.integration.killed_driver import SMALL, requests

pytestmark = pytest.mark.slow

LONGEST = 64


def processes(name: str, driver: int | None = None) -> list[psutil.Process]:
    """Those below this one, or below a `driver`, with `name` in their command line."""
    return [process for process in psutil.Process(driver).children(recursive=True) if name in command(process)]


def command(process: psutil.Process) -> str:
    """The command line, empty where the process has ended."""
    with suppress(psutil.Error):
        if process.status() != psutil.STATUS_ZOMBIE:
            return " ".join(process.cmdline())
    return ""


def engines(driver: int | None = None) -> list[psutil.Process]:
    """The processes of engines, two each."""
    return [*processes("EngineCore", driver), *processes("ray::EngineActor", driver)]


def none_left() -> bool:
    """Whether engines are gone, half a minute from now at the latest."""
    return gone(engines)


def gone(found: Callable[[], Any]) -> bool:
    """Whether nothing is found, half a minute from now at the latest."""
    end = time.monotonic() + 30
    while (left := found()) and time.monotonic() < end:
        time.sleep(0.2)
    return not left


@dataclass(frozen=True)
class Stages:
    """One stage after another, each with a cache of its own."""

    model: str
    changed: str
    folder: Path

    def run(
        self, name: str, rows: list[dict[str, Any]], *models: str, engine: EngineConfig = SMALL
    ) -> tuple[Any, dict[str, list[int]]]:
        """(What the stage cost, "model key" -> token ids). `models`: `base` or `changed`."""
        import ray.data

        from paft_ray.inference.generate import generate
        from paft_ray.inference.model_weights import ModelWeights

        known = {
            "base": ModelWeights(key={"stage": name}),
            "changed": ModelWeights(key={"changed": True}, materialize=partial(_folder, self.changed)),
        }
        names = {known[model].id: model for model in models}
        done = generate(
            ray.data.from_items([{"weights": key, **row} for key in names for row in rows]),
            name=name,
            base=find_model(self.model, None),
            models=[known[model] for model in models],
            cache=AnswerCache.of(Store.open(str(self.folder), "run"), name),
            engine=engine,
            max_model_len=LONGEST,
            seed=len(name),
        )
        return done, {f"{names[row['weights']]} {row['key']}": row["token_ids"] for row in done.answers.to_pylist()}


@contextmanager
def _folder(path: str) -> Iterator[str]:
    yield path


@pytest.fixture(scope="module")
def changed_model(demo_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo model with other weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = str(tmp_path_factory.mktemp("changed"))
    other = AutoModelForCausalLM.from_pretrained(demo_model, dtype=torch.float32)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in other.named_parameters():
            if "_proj" in name:
                weight += 0.02 * torch.randn(weight.shape, generator=noise)
    other.save_pretrained(folder)
    AutoTokenizer.from_pretrained(demo_model).save_pretrained(folder)
    return folder


@pytest.fixture
def stages(ray_session: None, demo_model: str, changed_model: str, tmp_path: Path) -> Stages:
    return Stages(demo_model, changed_model, tmp_path)


@pytest.fixture(scope="module")
def alone(
    ray_session: None, demo_model: str, changed_model: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[int]]:
    """ "model key" -> token ids from an engine that serves one stage."""
    stages = Stages(demo_model, changed_model, tmp_path_factory.mktemp("alone"))
    done, found = stages.run("alone", requests(), "base", "changed")
    assert done.engine_starts == 1
    assert none_left(), "a stage without others ends its engine"
    return found


def test_three_stages_start_one_engine_and_answer_as_one_of_their_own_does(
    stages: Stages, alone: dict[str, list[int]]
) -> None:
    base = {key: ids for key, ids in alone.items() if key.startswith("base")}
    with shared_engines(find_model(stages.model, None), LONGEST):
        first, found = stages.run("synthesize", requests(), "base")
        assert (first.engine_starts, found) == (1, base)
        (core,) = processes("EngineCore")
        before = sum(core.cpu_times()[:2])
        time.sleep(3)
        assert sum(core.cpu_times()[:2]) - before < 0.3, "an engine without requests takes no core"
        second, found = stages.run("evaluate", requests(), "base", "changed")
        assert (second.engine_starts, found) == (0, alone)
        third, found = stages.run("score", requests(), "base")
        assert (third.engine_starts, found) == (0, base), "the base model's weights are loaded again"
        assert first.nodes == second.nodes == third.nodes
        assert [process.pid for process in processes("EngineCore")] == [core.pid]
    assert none_left()


@pytest.mark.parametrize("victim", ["EngineCore", "ray::EngineActor"])
def test_an_engine_that_ends_between_stages_is_replaced(
    stages: Stages, alone: dict[str, list[int]], victim: str
) -> None:
    with shared_engines(find_model(stages.model, None), LONGEST):
        stages.run("synthesize", requests(4), "base")
        (process,) = processes(victim)
        os.kill(process.pid, signal.SIGKILL)
        time.sleep(2)
        done, found = stages.run("score", requests(), "base")
        assert done.engine_starts == 1
        assert found == {key: ids for key, ids in alone.items() if key.startswith("base")}
    assert none_left()


def test_an_engine_that_is_killed_in_a_later_stage_starts_again_there(
    stages: Stages, alone: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from paft_ray.inference.generate import take_nodes

    with shared_engines(find_model(stages.model, None), LONGEST):
        stages.run("synthesize", requests(4), "base")
        (process,) = processes("EngineCore")

        def take(rows: Any) -> Any:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            return take_nodes(rows)

        monkeypatch.setattr("paft_ray.inference.generate.take_nodes", take)
        done, found = stages.run("score", requests(), "base")
        assert done.engine_starts == 1, "the one after the kill"
        assert len(done.nodes) == 2
        assert found == {key: ids for key, ids in alone.items() if key.startswith("base")}
    assert none_left()


def test_both_replicas_answer_and_none_is_left_by_a_command_that_fails(
    stages: Stages, alone: dict[str, list[int]]
) -> None:
    two = SMALL.model_copy(update={"replicas": 2})

    def fail() -> None:
        with shared_engines(find_model(stages.model, None), LONGEST):
            done, found = stages.run("evaluate", requests(), "base", "changed", engine=two)
            assert (done.engine_starts, found) == (1, alone)  # the first that runs may answer all
            assert len(engines()) == 4
            again, found = stages.run("score", requests(200), "base", engine=two)
            assert (again.engine_starts, len(again.nodes), len(found)) == (0, 2, 200)
            raise KeyError("a stage that fails")

    with pytest.raises(KeyError, match="a stage that fails"):
        fail()
    assert none_left()


def test_an_idle_engine_ends_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "tests.integration.killed_driver", str(tmp_path), "idle"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert any('"engine_starts": 1' in line for line in driver.stdout)
        started = engines(driver.pid)
        assert len(started) == 2
        driver.kill()
    assert gone(lambda: [process for process in started if command(process)])
