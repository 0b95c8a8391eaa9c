"""What `engine.adapters=auto` takes, by measured costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from paft_ray.config import EngineConfig
from paft_ray.errors import StageError
from paft_ray.inference.answer_cache import AnswerCache
from paft_ray.inference.model_weights import ModelCost
from paft_ray.stages import adapter_cost
from paft_ray.stages.adapter_cost import Choice, chosen, measured_cells
from paft_ray.storage.manifests import ModelKey, TrainedModel
from paft_ray.storage.store import Store

AUTO = EngineConfig(precision="fp32", adapters="auto", batch_rows=4)
GRID = np.ones((10, 20), dtype=bool)
COSTS = {"merge": ModelCost(load_s=10, answer_s=1), "lora": ModelCost(load_s=1, answer_s=3)}


def adapter(seed: int, kind: Any = "adapter") -> TrainedModel:
    return TrainedModel(
        key=ModelKey("paft", seed),
        kind=kind,
        path=f"m/{seed}",
        sha256=f"{seed}",
        files={},
        num_templates=1,
        num_steps=1,
    )


@pytest.fixture
def cache(tmp_path: Path) -> AnswerCache:
    return AnswerCache.of(Store.at(str(tmp_path)), "evaluate")


@pytest.fixture(autouse=True)
def ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_cost, "adapter_config_of", lambda store, model: SimpleNamespace(r=8 + model.seed))


def choice(
    cache: AnswerCache, measure: Callable[..., Any], engine: EngineConfig = AUTO, num: int = 3, **key: str
) -> Any:
    models = [(None, cache.run), *((adapter(seed), cache.run) for seed in range(num))]
    return chosen(engine, models, asked=GRID, cache=cache, key=key, measure=measure)


def unasked(*_: Any) -> Any:
    raise AssertionError("nothing is to be measured")


@pytest.mark.parametrize(("times", "way", "merge_s", "lora_s"), [(2, "lora", 24, 14), (10, "merge", 40, 62)])
def test_loading_is_paid_once_and_answering_for_each_answer(
    times: float, way: str, merge_s: float, lora_s: float
) -> None:
    assert Choice.of(COSTS, num_adapters=2, times=times) == Choice(way=way, merge_s=merge_s, lora_s=lora_s)


def test_what_is_set_is_taken_without_a_measurement(cache: AnswerCache) -> None:
    for way in ("merge", "lora"):
        assert choice(cache, unasked, AUTO.model_copy(update={"adapters": way})) == Choice(way=way)
    assert not cache.run.exists(cache.folder)


def test_auto_measures_the_highest_rank_once_and_keeps_to_it(
    cache: AnswerCache, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Any] = []

    def measure(model: TrainedModel, store: Store, cells: Any) -> Any:
        asked.append((model.seed, store is cache.run, int(cells.sum())))
        return COSTS, 1

    found = choice(cache, measure)
    assert asked == [(2, True, 4)], "an engine's batch"
    assert (found.way, found.engine_starts) == ("merge", 1)
    assert (found.merge_s, found.lora_s) == (3 * (10 + 50 * 1), 3 * (1 + 50 * 3))
    again = choice(cache, unasked)
    assert (again.way, again.merge_s, again.engine_starts) == ("merge", found.merge_s, 0)
    assert caplog.messages[-1].endswith("adapters are merged into their base (about 180 s merged, 453 s served)")
    choice(cache, measure, base="other")
    assert len(asked) == 2, "of another base nothing is known"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"way": "both", "merge_s": 1, "lora_s": 2}',
        '{"cheaper": "lora"}',
        '{"way": "merge", "merge_s": "1", "lora_s": 2}',
        '{"way": "merge", "merge_s": null, "lora_s": null}',
        '{"way": "merge", "merge_s": 1, "lora_s": 2, "engine_starts": "x"}',
    ],
)
def test_a_damaged_choice_is_measured_anew(cache: AnswerCache, text: str) -> None:
    choice(cache, lambda *_: (COSTS, 0))
    (file,) = Path(cache.run.path(cache.folder)).iterdir()
    file.write_text(text)
    cheap = {"merge": ModelCost(load_s=99), "lora": ModelCost()}
    assert choice(cache, lambda *_: (cheap, 0)).way == "lora"


def test_few_answers_are_merged_without_a_measurement(cache: AnswerCache, caplog: pytest.LogCaptureFixture) -> None:
    wide = AUTO.model_copy(update={"batch_rows": 64})
    assert choice(cache, unasked, wide) == Choice(way="merge")
    assert not cache.run.exists(cache.folder), "with more of them it is measured"
    assert caplog.messages[-1].endswith(
        "adapters are merged into their base (too few answers to measure what is faster)"
    )


def test_one_kind_of_weights_counts_once_and_full_weights_do_not(cache: AnswerCache) -> None:
    asked: list[int] = []
    models = [(adapter(0), cache.run), (adapter(0), cache.run), (adapter(1, "weights"), cache.run)]
    found = chosen(AUTO, models, asked=GRID, cache=cache, key={}, measure=lambda *each: (asked.append(1) or COSTS, 0))
    assert (asked, found.merge_s) == ([1], 60)
    full = chosen(AUTO, models[2:], asked=GRID, cache=cache, key={"full": 1}, measure=unasked)
    assert full == Choice(way="merge")


def test_adapters_that_the_engine_does_not_serve_are_merged(
    cache: AnswerCache, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> Any:
        raise StageError("4 of 12 rows failed")

    assert choice(cache, refuse) == Choice(way="merge")
    assert any("4 of 12 rows failed" in message for message in caplog.messages)


def test_measured_cells_are_spread_over_those_that_are_asked() -> None:
    asked = np.zeros((4, 10), dtype=bool)
    asked[::2] = True
    found = measured_cells(asked, AUTO)
    assert found.shape == asked.shape
    assert np.flatnonzero(found).tolist() == [0, 5, 20, 25]
    gpu = AUTO.model_copy(update={"num_gpus": 1})
    assert measured_cells(asked, gpu).sum() == 16
    assert measured_cells(asked, gpu.model_copy(update={"replicas": 2})).sum() == 20, "all"
