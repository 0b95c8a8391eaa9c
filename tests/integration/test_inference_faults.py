"""Killed engines and drivers, poison rows and hangs on the real engine: no stored answer is computed again, and none is
lost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paft_ray.config import EngineConfig, ModelConfig
from paft_ray.errors import StageError
from paft_ray.inference.answer_cache import AnswerCache
from paft_ray.inference.grid import Free
from paft_ray.models.local import find_model
from paft_ray.models.reference import ModelFiles
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages.evaluate import Place
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example, load_task
from tests.integration.killed_driver import NUM_ROWS, SMALL, requests
from tests.support.made_stage import trained_model
from tests.support.tiny_adapter import write_weights

pytestmark = pytest.mark.slow

POISON: dict[str, dict[str, Any]] = {
    "too long": {"prompt_ids": [5] * 200},
    "as long as the context": {"prompt_ids": [5] * 64},
    "no prompt": {"prompt_ids": []},
    "out of the vocabulary": {"prompt_ids": [5, 60_000]},
    "negative id": {"prompt_ids": [5, -1]},
    "bad sampling": {"prompt_ids": [5], "sampling": json.dumps({"max_tokens": 0})},
    "unknown sampling": {"prompt_ids": [5], "sampling": json.dumps({"max_tokenz": 1})},
    "bad grammar": {
        "prompt_ids": [5],
        "sampling": json.dumps({"max_tokens": 1, "structured_outputs": {"regex": "(["}}),
    },
    "no text": {"prompt_ids": [], "error": "TypeError: no text"},
}
REASONS = {
    "too long": "maximum context length",
    "as long as the context": "longer than the maximum model length",
    "no prompt": "must be provided",
    "out of the vocabulary": "out of vocabulary",
    "negative id": "out of vocabulary",
    "bad sampling": "max_tokens",
    "unknown sampling": "max_tokenz",
    "bad grammar": "invalid regex",
    "no text": "TypeError: no text",
}


def poison() -> list[dict[str, Any]]:
    return [{"key": key, "sampling": json.dumps({"max_tokens": 1}), "error": "", **row} for key, row in POISON.items()]


def parts(folder: Path) -> AnswerCache:
    return AnswerCache.of(Store.open(str(folder), "run"), "score")


def asked(folder: Path) -> Counter[str]:
    """How often each key was answered and stored, over all attempts."""
    return Counter(
        key
        for file in folder.rglob("part-*.parquet")
        for key in pq.read_table(file, columns=["key"])["key"].to_pylist()
    )


def ask(rows: list[dict[str, Any]], place: AnswerCache, model: str | ModelFiles, engine: EngineConfig):
    import ray.data

    from paft_ray.inference.generate import generate
    from paft_ray.inference.model_weights import ModelWeights

    weights = ModelWeights(key={})
    rows = [{"error": "", "weights": weights.id, **row} for row in rows]
    return generate(
        ray.data.from_items(rows),
        name="test",
        base=find_model(model, None) if isinstance(model, str) else model,
        models=[weights],
        cache=place,
        engine=engine,
        max_model_len=64,
    )


@contextmanager
def killed(when: Callable[[], bool], *, core: bool = False) -> Iterator[list[int]]:
    """SIGKILLs the worker that holds the next engine, or the engine's own process below it (`core`), once `when` says
    so."""
    from ray._private.state import actors

    def engines() -> dict[str, int]:
        return {
            key: actor["Pid"]
            for key, actor in actors().items()
            if "EngineActor" in actor["ActorClassName"] and actor["State"] == "ALIVE"
        }

    before, killed_ids, end = engines(), [], threading.Event()

    def watch() -> None:
        while not end.wait(0.05):
            new = {key: pid for key, pid in engines().items() if key not in before and pid}
            if new and when():
                pid = next(iter(new.values()))
                if core:
                    (pid,) = (
                        child.pid
                        for child in psutil.Process(pid).children(recursive=True)
                        if "EngineCore" in " ".join(child.cmdline())
                    )
                os.kill(pid, signal.SIGKILL)
                killed_ids.append(pid)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield killed_ids
    finally:
        end.set()
        thread.join()


@pytest.fixture(scope="module")
def at_once(ray_session: None) -> Iterator[None]:
    """Answers are stored as they arrive."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("paft_ray.inference.answer_cache.SAVE_EVERY_S", 0)
        yield


@pytest.fixture(scope="module")
def uninterrupted(at_once: None, demo_model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """Key -> token ids."""
    done = ask(requests(), parts(tmp_path_factory.mktemp("whole")), demo_model, SMALL)
    return {row["key"]: row["token_ids"] for row in done.answers.to_pylist()}


@pytest.fixture(scope="module", params=["worker", "core"])
def restarted(
    request: pytest.FixtureRequest, at_once: None, demo_model: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path, str]:
    """(what came, folder of the parts, what the console said) where the engine was killed once part of the rows had
    answers; poison is among them."""
    folder = tmp_path_factory.mktemp("restarted")
    said: list[str] = []
    with (
        pytest.MonkeyPatch.context() as patch,
        killed(lambda: sum(asked(folder).values()) >= 6, core=request.param == "core") as victims,
    ):
        log = SimpleNamespace(info=lambda text, **extra: said.append(text), warning=said.append)
        patch.setattr("paft_ray.inference.generate._log", log)
        rows = [*requests()[:12], *poison(), *requests()[12:]]
        done = ask(rows, parts(folder), demo_model, SMALL.model_copy(update={"max_failed_fraction": 0.5}))
    assert len(victims) == 1
    return done, folder, "\n".join(said)


def test_an_engine_that_is_killed_starts_again_and_asks_only_what_is_missing(restarted: tuple[Any, Path, str]) -> None:
    done, folder, said = restarted
    assert (done.engine_starts, len(done.nodes)) == (2, 2), "a replica before the kill and one after it"
    assert sorted(done.answers["key"].to_pylist(), key=int) == [str(n) for n in range(NUM_ROWS)]
    assert set(asked(folder).values()) == {1}
    assert "the engine crashed after" in said
    assert "starting the engine again (1 of 2)" in said


def test_answers_are_those_of_an_uninterrupted_run(
    restarted: tuple[Any, Path, str], uninterrupted: dict[str, list[int]]
) -> None:
    assert {row["key"]: row["token_ids"] for row in restarted[0].answers.to_pylist()} == uninterrupted


def test_a_poison_row_costs_one_row_and_says_why(restarted: tuple[Any, Path, str]) -> None:
    done, folder, said = restarted
    assert done.num_failed == len(POISON)
    errors = {
        row["key"]: row["error"]
        for file in folder.rglob("part-*.parquet")
        for row in pq.read_table(file).to_pylist()
        if row["error"]
    }
    assert errors.keys() == POISON.keys()
    assert {key: text for key, text in errors.items() if REASONS[key] not in text} == {}
    assert len(done.failures) == 5
    assert f"{len(POISON)} of {NUM_ROWS + len(POISON)} requests failed; the first, {done.failures[0]['key']}" in said


def test_where_all_is_answered_no_engine_starts(restarted: tuple[Any, Path, str], demo_model: str) -> None:
    first, folder, _ = restarted
    again = ask(
        [*requests(), *poison()], parts(folder), demo_model, SMALL.model_copy(update={"max_failed_fraction": 0.5})
    )
    assert (again.engine_starts, again.num_kept, again.num_failed) == (0, NUM_ROWS + len(POISON), len(POISON))
    assert again.answers.sort_by("key").equals(first.answers.combine_chunks().sort_by("key"))


@pytest.mark.parametrize("core", [False, True])
def test_of_two_engines_one_is_lost_and_the_other_answers_its_requests(
    at_once: None, demo_model: str, uninterrupted: dict[str, list[int]], tmp_path: Path, core: bool
) -> None:
    said: list[str] = []
    log = SimpleNamespace(info=lambda text, **extra: said.append(text), warning=said.append)
    two = SMALL.model_copy(update={"replicas": 2, "batch_rows": 1})
    with (
        pytest.MonkeyPatch.context() as patch,
        killed(lambda: sum(asked(tmp_path).values()) >= 6, core=core) as victims,
    ):
        patch.setattr("paft_ray.inference.generate._log", log)
        done = ask(requests(), parts(tmp_path), demo_model, two)
    assert len(victims) == 1
    assert done.engine_starts == 1, "the other goes on"
    assert {row["key"]: row["token_ids"] for row in done.answers.to_pylist()} == uninterrupted
    assert set(asked(tmp_path).values()) == {1}
    assert any("1 of 2 engines lost, the others answer their requests" in line for line in said), said


def test_failed_rows_are_asked_again_where_more_failed_than_allowed() -> None:
    from paft_ray.inference.engine import ANSWERS
    from paft_ray.inference.generate import kept_rows

    rows = pa.Table.from_pylist(
        [{"key": str(n), "request": str(n), "error": "" if n else "boom"} for n in range(10)], schema=ANSWERS
    )
    assert [kept_rows(rows, allowed).num_rows for allowed in (0.05, 0.1)] == [9, 10]
    assert kept_rows(rows.slice(0, 0), 0.0).num_rows == 0


def test_an_engine_that_dies_too_often_ends_the_stage(at_once: None, demo_model: str, tmp_path: Path) -> None:
    said = r"crashed once \(engine.max_restarts=0\).*same command computes only the missing answers"
    with killed(lambda: True) as victims, pytest.raises(StageError, match=said):
        ask(requests(4), parts(tmp_path), demo_model, SMALL.model_copy(update={"max_restarts": 0}))
    assert victims


def test_an_engine_that_refuses_its_settings_is_not_started_again(
    at_once: None, demo_model: str, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=r"the engine failed: .*quantization"):
        ask(
            requests(4),
            parts(tmp_path),
            demo_model,
            SMALL.model_copy(update={"engine_kwargs": {"quantization": "no such thing"}}),
        )


def test_an_engine_starts_with_the_folder_of_its_own_node(at_once: None, demo_model: str) -> None:
    import ray.data

    from paft_ray.inference.engine import answers
    from paft_ray.inference.engine_pool import stage_engines
    from paft_ray.inference.model_weights import ModelWeights

    weights, found = ModelWeights(key={}), find_model("demo", None)
    rows = ray.data.from_items([{**row, "request": "", "weights": weights.id} for row in requests(1)])
    only_there = replace(found, path="/only/on/the/driver")
    with stage_engines() as pool:
        engines, _ = pool.engines(only_there, SMALL, 64)
        arrived = answers.remote(rows, replace(engines, base=found), {weights.id: weights})
        assert [table["error"].to_pylist() for table in map(ray.get, arrived)] == [[""]]


def test_an_engine_of_other_files_than_the_drivers_ends_with_its_node(
    at_once: None, demo_model: str, tmp_path: Path
) -> None:
    found = find_model(demo_model, None)
    other = replace(found, reference=replace(found.reference, identity={**found.identity, "files": {}}))
    with pytest.raises(
        StageError, match=r"the engine failed: .*node \S+: model \S+ in .* has other files than"
    ) as ended:
        ask(requests(1), parts(tmp_path), other, SMALL)
    assert "\n" not in str(ended.value)


def test_a_hang_ends_with_what_was_free_and_how_far_it_came(at_once: None, demo_model: str, tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(
        StageError,
        match=r"engine stalled: no response for 4 s \(engine.stall_timeout_s\), killed; 0 requests answered; "
        r"free: CPU 4.*an engine takes 64 CPUs.*logs",
    ):
        ask(requests(4), parts(tmp_path), demo_model, SMALL.model_copy(update={"stall_timeout_s": 4, "num_cpus": 64}))
    assert time.monotonic() - begin < 30


def test_a_text_that_cannot_be_encoded_costs_its_cells_and_a_finished_measurement_no_engine(
    at_once: None, demo_model: str, tmp_path: Path
) -> None:
    from paft_ray.inference.evaluator import EvalResult, evaluate
    from paft_ray.inference.generate import Generated
    from paft_ray.inference.model_weights import ModelWeights

    texts = ("a warm, funny film", "", "nul \0 and \ufffe", "half a character: \ud83d", "long " * 20_000)
    examples = [Example(id=str(i), fields={"text": text}, answer="positive") for i, text in enumerate(texts)]
    templates = [
        PromptTemplate(text="Review: {text}\nPositive or negative? Answer:"),
        PromptTemplate(text="{text}\nIs this positive or negative?\n"),
    ]

    def measured() -> tuple[EvalResult, Generated]:
        (result, same), spent = evaluate(
            name="test",
            task=load_task("demo"),
            templates=templates,
            examples=examples,
            model=ModelConfig(max_prompt_tokens=64),
            base=find_model(demo_model, None),
            models=[ModelWeights(key={}), ModelWeights(key={})],
            cache=parts(tmp_path),
            engine=SMALL.model_copy(update={"max_failed_fraction": 0.5}),
            free=Free(num_rows=2, max_tokens=4),
        )
        assert same == result, "two arms with the same weights are asked once"
        return result, spent

    (first, started), (second, kept) = measured(), measured()
    assert first.num_failed == 2
    assert {(failure["example_id"], failure["template_id"]) for failure in first.failures} == {
        ("3", template.id) for template in templates
    }
    assert all("surrogate" in failure["error"] or "TypeError" in failure["error"] for failure in first.failures)
    assert first.num_truncated == 2
    assert (started.engine_starts, kept.engine_starts, started.num_kept, kept.num_kept) == (1, 0, 0, 12)
    assert (second.outcomes, sorted(second.timed, key=str)) == (first.outcomes, sorted(first.timed, key=str))
    assert sorted(second.failures, key=str) == sorted(first.failures, key=str), "kept answers have no order of arrival"


def test_weights_left_by_a_killed_evaluation_go_and_those_of_another_stay(ray_session: None, tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "run")
    run.upload_dir(write_weights(tmp_path / "weights"), "train/paft-s0/weights")
    base = find_model(str(tmp_path / "weights"), None)
    place, other = (Place(run=run, engine=SMALL, owner=owner, base=base) for owner in ("a", "b"))
    candidate = trained_model(run, "train/paft-s0/weights")

    def there() -> list[str]:
        return sorted(path.name for path in (tmp_path / "run").glob("merged-*"))

    with other.weights(candidate, run) as kept, place.weights(candidate, run) as left:
        assert Path(left, "config.json").is_file()
        place.clear()
        assert there() == [Path(kept).parent.name]
    other.clear()
    assert there() == []


def test_a_driver_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.integration.killed_driver", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as driver:
        end = time.monotonic() + 400
        while sum(asked(tmp_path).values()) < 6 and driver.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        driver.kill()
    stored = sum(asked(tmp_path).values())
    assert 6 <= stored < NUM_ROWS
    again = subprocess.run(command, check=True, capture_output=True, text=True, timeout=400)
    assert json.loads(again.stdout.splitlines()[-1]) == {"kept": stored, "answers": NUM_ROWS, "engine_starts": 1}
    assert Counter(asked(tmp_path).values()) == {1: NUM_ROWS}
