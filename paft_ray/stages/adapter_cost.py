"""Whether trained adapters answer merged into their base or served upon it: `engine.adapters=auto` takes what costs
less here."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from paft_ray.config import EngineConfig
from paft_ray.errors import StageError, UserError
from paft_ray.log import get_logger, stage_label
from paft_ray.storage.manifests import TrainedModel
from paft_ray.storage.store import Store
from paft_ray.training.trained_weights import adapter_config_of

_log = get_logger(__name__)

if TYPE_CHECKING:
    from paft_ray.inference.answer_cache import AnswerCache
    from paft_ray.inference.engine_pool import EnginePool
    from paft_ray.inference.model_weights import ModelCost, ModelWeights

Way = Literal["merge", "lora"]
"""Merged into the base and loaded, or served upon the base."""
WAYS: tuple[Way, ...] = ("merge", "lora")
Measure = Callable[[TrainedModel, Store, NDArray[np.bool_]], tuple[Mapping[Way, "ModelCost"], int]]
"""(What an adapter in a store costs either way to answer cells [templates, examples]; starts of an engine)."""
_SAID: Mapping[Way, str] = {"merge": "merged into their base", "lora": "served upon their base"}
_BATCHES_ON_GPU = 4
"""Batches of an engine that are measured: as many as it answers at a time."""
_WORTH = 10
"""Measured is where this many times as many answers are asked for as measuring asks."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The cheaper way, and what both would take."""

    way: Way
    merge_s: float | None = None
    """Seconds for all adapters; None where neither was measured."""
    lora_s: float | None = None
    engine_starts: int = 0
    """That measuring took."""

    @property
    def kept(self) -> dict[str, Any]:
        """What is written of it."""
        return {name: value for name, value in asdict(self).items() if name != "engine_starts"}

    @classmethod
    def of(cls, costs: Mapping[Way, ModelCost], *, num_adapters: int, times: float, engine_starts: int = 0) -> Choice:
        """By what one adapter costs either way, which is asked for `times` as many answers as were measured."""
        seconds = {way: num_adapters * (costs[way].load_s + times * costs[way].answer_s) for way in WAYS}
        cheaper: Way = "lora" if seconds["lora"] < seconds["merge"] else "merge"
        return cls(way=cheaper, merge_s=seconds["merge"], lora_s=seconds["lora"], engine_starts=engine_starts)

    @classmethod
    def read(cls, store: Store, file: str) -> Choice | None:
        """What was written before; None where nothing was, or something else."""
        try:
            found = cls(**store.read_json(file)) if store.exists(file) else None
        except (UserError, TypeError):
            return None
        if found is None or found.way not in WAYS or found.engine_starts != 0:
            return None
        return found if {type(found.merge_s), type(found.lora_s)} <= {int, float} else None


def chosen(
    engine: EngineConfig,
    models: Sequence[tuple[TrainedModel | None, Store]],
    *,
    asked: NDArray[np.bool_],
    cache: AnswerCache,
    key: Mapping[str, Any],
    measure: Measure,
) -> Choice:
    """How the adapters among the models, each in a store, answer the cells `asked` [templates, examples].

    What was measured under a `key` is kept beside the answers, whose key the way is part of. Adapters that cannot be
    measured are merged.
    """
    adapters = {model.sha256: (model, store) for model, store in models if model is not None and model.is_adapter}
    if engine.adapters != "auto" or not adapters:
        return Choice(way="lora" if engine.adapters == "lora" else "merge")
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    file = f"{cache.folder}/adapters-{name}.json"
    choice = Choice.read(cache.run, file)
    if choice is None:
        choice = _measured(engine, list(adapters.values()), asked, measure)
        if choice.merge_s is not None:
            cache.run.write_json(file, choice.kept)
    _say(choice)
    return choice


def _measured(
    engine: EngineConfig,
    adapters: Sequence[tuple[TrainedModel, Store]],
    asked: NDArray[np.bool_],
    measure: Measure,
) -> Choice:
    """By the adapter of the highest rank, for which an engine makes room for all."""
    cells = measured_cells(asked, engine)
    times = int(np.count_nonzero(asked)) / max(1, int(np.count_nonzero(cells)))
    if len(adapters) * times < _WORTH * (1 + len(WAYS)):
        return Choice(way="merge")
    model, store = max(adapters, key=lambda each: adapter_config_of(each[1], each[0]).r)
    try:
        costs, starts = measure(model, store, cells)
        return Choice.of(costs, num_adapters=len(adapters), times=times, engine_starts=starts)
    except (StageError, UserError) as error:
        _log.warning(f"{stage_label('evaluate')} what adapters cost was not measured: {error}")
        return Choice(way="merge")


def _say(choice: Choice) -> None:
    why = (
        "too few answers to measure what is faster"
        if choice.merge_s is None or choice.lora_s is None
        else f"about {choice.merge_s:.0f} s merged, {choice.lora_s:.0f} s served"
    )
    _log.info(f"{stage_label('evaluate')} engine.adapters=auto: adapters are {_SAID[choice.way]} ({why})")


def measured_cells(asked: NDArray[np.bool_], engine: EngineConfig) -> NDArray[np.bool_]:
    """Some of the cells, spread evenly: as many as all engines answer at a time. Shape [templates, examples]."""
    cells = np.flatnonzero(asked)
    num = min(len(cells), engine.replicas * engine.batch_rows * (_BATCHES_ON_GPU if engine.num_gpus else 1))
    chosen = np.zeros(asked.size, dtype=bool)
    chosen[cells[np.arange(num) * len(cells) // max(num, 1)]] = True
    return chosen.reshape(asked.shape)


def costs(
    ask: Callable[..., Any],
    weights: Callable[..., ModelWeights],
    engines: EnginePool,
    model: TrainedModel,
    store: Store,
    cells: NDArray[np.bool_],
) -> tuple[dict[Way, ModelCost], int]:
    """(What an adapter takes to answer these cells, merged and served; starts of an engine).

    The base model, which answers first, bears what the first answers after a start take longer. No answer is kept: one
    that is kept takes no time.
    """
    from paft_ray.inference.answer_cache import AnswerCache

    ways = {way: weights(model, store, way) for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        _, spent = ask(
            models=[weights(None, store, "merge"), *ways.values()],
            cache=AnswerCache.of(Store.at(folder), ""),
            cells=cells,
        )
    return {way: engines.cost(asked.id) for way, asked in ways.items()}, spent.engine_starts
