"""The engine of Ray Data's LLM stage, whose weights change while it runs. Imports vLLM."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from itertools import groupby
from typing import Any

import ray

from paft_ray.cpu_priority import as_computing
from paft_ray.inference import engine_preload
from paft_ray.inference.model_weights import ModelWeights
from paft_ray.models.files import loaded_files

with engine_preload.importing():
    from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF
    from ray.llm._internal.common.errors import VLLM_FATAL_ERRORS


class WeightSwappingEngineStage(vLLMEngineStageUDF):
    """Ray's engine for several models of one architecture, whose weights are loaded in turns: seconds, where another
    start takes twenty on a CPU."""

    def __init__(self, *args: Any, weights: Mapping[str, ModelWeights], **kwargs: Any) -> None:
        as_computing()
        session = ray._private.worker.global_worker.node.get_session_dir_path()
        super().__init__(*args, **{**kwargs, "model": loaded_files(kwargs["model"], session)})
        self.weights = weights
        self.loaded = next((model for model, each in weights.items() if each.materialize is None), None)
        self.running = 0
        self.turn = asyncio.Condition()

    async def udf(self, batch: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        for model, rows in groupby(batch, key=lambda row: str(row["weights"])):
            async with self._turn(model):
                async for row in super().udf(list(rows)):
                    yield row

    @asynccontextmanager
    async def _turn(self, model: str) -> AsyncIterator[None]:
        """While the block runs the weights are those of `model`; whoever wants others waits until nobody uses these."""
        async with self.turn:
            await self.turn.wait_for(lambda: self.loaded == model or not self.running)
            if self.loaded != model:
                await self._load(model)
            self.running += 1
        try:
            yield
        finally:
            async with self.turn:
                self.running -= 1
                self.turn.notify_all()

    async def _load(self, model: str) -> None:
        """Loads other weights in place; what was computed with those before is forgotten."""
        wanted = self.weights[model]
        try:
            with ExitStack() as stack:
                folder = (
                    self.model
                    if wanted.materialize is None
                    else await asyncio.to_thread(stack.enter_context, wanted.materialize())
                )
                await self.llm.engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})
            await self.llm.engine.reset_prefix_cache()
        except VLLM_FATAL_ERRORS:
            os._exit(1)  # as Ray's engine ends where its process is lost, so that this is not taken as a refusal
        self.loaded = model
