"""The engine of Ray Data's LLM stage, whose weights change while it runs, or which serves adapters. Imports vLLM."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from itertools import groupby
from typing import Any

import ray

from paft_ray.compat.ray import session_folder
from paft_ray.cpu_priority import as_computing
from paft_ray.inference import engine_preload
from paft_ray.inference.early_end import EarlyEnd
from paft_ray.inference.model_weights import ModelCost, ModelWeights
from paft_ray.models.files import loaded_files
from paft_ray.models.local import find_on_this_node
from paft_ray.models.reference import ModelFiles
from paft_ray.models.resolve import load_tokenizer

with engine_preload.importing():
    from paft_ray.compat.ray_llm_engine_stage import (
        EngineStage,
        empty_prefix_cache,
        end_answers_early,
        load_weights,
        process_ends_with_engine,
    )

_BASE = "base"


class WeightSwappingEngineStage(EngineStage):
    """Ray's engine for several models of one architecture, whose weights are swapped in place: seconds, where another
    start takes twenty on a CPU. It starts with those of `base`, upon which it serves models that are adapters."""

    def __init__(self, *args: Any, base: ModelFiles, **kwargs: Any) -> None:
        as_computing()
        self.base = loaded_files(find_on_this_node(base).path, str(session_folder()))
        super().__init__(*args, **{**kwargs, "model": self.base})
        end_answers_early(self, EarlyEnd(partial(load_tokenizer, self.base)).watch)
        self.weights: Mapping[str, ModelWeights] = {}
        self.loaded: str | None = _BASE
        self.answering = _BASE
        self.adapters: dict[str, str] = {}
        self.costs: dict[str, ModelCost] = {}
        self.kept = ExitStack()
        self.place = {
            "replica": ray.get_runtime_context().get_actor_id(),
            "node": ray.util.get_node_ip_address(),
        }
        self.num_running, self.running_since_s = 0, 0.0
        self.changed = asyncio.Condition()

    async def serve(self, weights: Mapping[str, ModelWeights]) -> None:
        """Answers for these models from here on, as if it had just started: others' adapters, and the prefixes that it
        has computed for them, are forgotten, unless it answers for a lost replica already."""
        async with self.changed:
            self.weights = weights
            if self.num_running:
                self.adapters = {key: folder for key, folder in self.adapters.items() if os.path.isdir(folder)}
                return
            self.kept.close()
            self.adapters, self.costs = {}, {}
            with process_ends_with_engine():
                await empty_prefix_cache(self.llm.engine)

    async def check(self) -> None:
        """Nothing. Raises vLLM's error where the engine's own process is gone."""
        await self.llm.engine.check_health()

    def stop(self) -> None:
        """Ends the engine's own process."""
        self.llm.shutdown()
        self.kept.close()

    async def udf(self, batch: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        """Rows of the batch with the engine's output, from the model that each names in its column `weights`, and with
        the engine's `replica` and `node`."""
        for key, rows in groupby(batch, key=lambda row: str(row["weights"])):
            async with self._using(key):
                upon = {"model": self.adapters[key]} if self.weights[key].adapter_rank else {}
                async for row in super().udf([{**row, **upon} for row in rows]):
                    yield {**row, **self.place}

    @asynccontextmanager
    async def _using(self, key: str) -> AsyncIterator[None]:
        """While the block runs the engine answers for `key` alone, with its weights; another model waits until nobody
        uses these. So do models upon the same weights: vLLM 0.32 on a CPU answers a row without an adapter, beside one
        with an adapter, from the adapter that it used before."""
        weights = self.weights[key]
        wanted = _BASE if weights.materialize is None or weights.adapter_rank else key
        async with self.changed:
            await self.changed.wait_for(lambda: self.answering == key or not self.num_running)
            self.answering = key
            cost = self.costs.setdefault(key, ModelCost())
            if self.loaded != wanted:
                begin_s = time.monotonic()
                await self._load(wanted)
                self.loaded = wanted
                cost.load_s += (time.monotonic() - begin_s) * (wanted == key)  # the base's are no adapter's cost
            if weights.adapter_rank and key not in self.adapters:
                assert weights.materialize is not None
                begin_s = time.monotonic()
                self.adapters[key] = await asyncio.to_thread(self.kept.enter_context, weights.materialize())
                cost.load_s += time.monotonic() - begin_s
            if not self.num_running:
                self.running_since_s = time.monotonic()
            self.num_running += 1
        try:
            yield
        finally:
            async with self.changed:
                self.num_running -= 1
                if not self.num_running:
                    cost.answer_s += time.monotonic() - self.running_since_s
                self.changed.notify_all()

    async def _load(self, key: str) -> None:
        """Loads other weights in place. Where that fails the next batch loads its own again."""
        materialize = None if key == _BASE else self.weights[key].materialize
        self.loaded = None
        with ExitStack() as stack:
            folder = self.base if materialize is None else await asyncio.to_thread(stack.enter_context, materialize())
            with process_ends_with_engine():
                await load_weights(self, folder)
