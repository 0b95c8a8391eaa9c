"""The actor that holds an engine, and what stands for it in Ray Data. Imports no vLLM: the actor does, when it
starts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from paft_ray.config import EngineConfig
from paft_ray.cpu_priority import as_computing, usable_cpus
from paft_ray.inference import engine_preload
from paft_ray.inference.engine_errors import is_process_failure, root_cause
from paft_ray.inference.model_weights import ModelCost, ModelWeights
from paft_ray.inference.vllm_args import CPU_ENVIRONMENT
from paft_ray.models.reference import ModelFiles


@dataclass(frozen=True, kw_only=True)
class Engines:
    """The replicas of an engine."""

    base: ModelFiles
    """The model that they start with, as the driver found it."""
    settings: EngineConfig
    max_model_len: int
    """Most tokens of a request with its answer."""
    actors: tuple[Any, ...]
    """Handles of `EngineActor`, one per replica."""
    adapter_rank: int = 0
    """Highest rank of adapters that they serve upon their model; 0: they serve none."""

    def serve(self, base: ModelFiles, settings: EngineConfig, max_model_len: int, adapter_rank: int) -> bool:
        """Whether they answer as engines would that are started like this."""
        alike = (self.base, self.settings) == (base, settings)
        return alike and self.max_model_len >= max_model_len and self.adapter_rank >= adapter_rank


class EngineActor:
    """One replica of an engine. It outlives the pipelines of Ray Data that send it rows; it ends with the driver, or
    when that ends it.

    It imports vLLM as soon as it is made, while the pipeline is still being built.
    """

    def __init__(self, base: ModelFiles) -> None:
        as_computing()
        from paft_ray.inference.weight_swapping import WeightSwappingEngineStage

        self.base, self.make = base, WeightSwappingEngineStage
        self.stage: WeightSwappingEngineStage | None = None
        self.started = asyncio.Event()

    async def start(self, weights: Mapping[str, ModelWeights], arguments: Mapping[str, Any]) -> None:
        """Starts the engine, with the arguments of Ray's stage, where it does not run yet; it answers for `weights`
        from here on."""
        if self.stage is None:
            self.stage = self.make(base=self.base, **arguments)
        await self.stage.serve(weights)
        self.started.set()

    async def answer(self, batch: dict[str, Any], weights: Mapping[str, ModelWeights] | None = None) -> dict[str, Any]:
        """A batch of Ray's stage with its answers, once the engine has started. `weights`: those of a batch that comes
        in another replica's place, maybe before this one's own `start`."""
        await self.started.wait()
        assert self.stage is not None
        if weights is not None:
            self.stage.weights = weights
        (answered,) = [rows async for rows in self.stage(batch)]
        return answered

    async def costs(self) -> dict[str, ModelCost]:
        """What was spent on models, by the ids of their weights, since it last began to serve. One that runs beside
        others that need no other weights has no time of its own."""
        return self.stage.costs if self.stage is not None else {}

    async def check(self) -> None:
        """Raises vLLM's error where the engine's own process is gone."""
        if self.stage is not None:
            await self.stage.check()

    async def stop(self) -> None:
        """Ends the engine's own process, which leaves nothing behind."""
        if self.stage is not None:
            self.stage.stop()


class EngineProxy:
    """What Ray Data runs in place of an engine: it hands batches on to the actor that holds one; once that is lost, to
    the actor of another replica."""

    def __init__(self, *, actors: Sequence[Any], weights: Mapping[str, ModelWeights], **arguments: Any) -> None:
        """`actors`: the replicas, of which the number at the end of the proxy's name is its own; `arguments`: those of
        Ray's stage."""
        number = int(str(ray.get_runtime_context().get_actor_name()).rpartition("-")[2]) % len(actors)
        self.own, self.weights = actors[number], weights
        self.left = [*actors[number:], *actors[:number]]
        with _as_if_here():
            try:
                ray.get(self.own.start.remote(weights, arguments))
            except RayError as error:
                if not is_process_failure(error) or len(self.left) == 1:
                    raise
                self._leave(self.own)

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The batch with its answers. What has cost two replicas is asked of no third."""
        with _as_if_here():
            asked = self.left[0]
            try:
                answered = await self._ask(asked, batch)
            except RayError as error:
                if not is_process_failure(error):
                    raise
                self._leave(asked)
                answered = await self._ask(await self._alive(error), batch)
        yield answered

    async def _ask(self, actor: Any, batch: dict[str, Any]) -> Any:
        return await actor.answer.remote(batch, None if actor is self.own else self.weights)

    async def _alive(self, lost: RayError) -> Any:
        """The next replica that is there. Raises `lost` where none is."""
        while self.left:
            actor = self.left[0]
            try:
                await actor.check.remote()
            except RayError:
                self._leave(actor)
            else:
                return actor
        raise lost

    def _leave(self, actor: Any) -> None:
        """Asks a replica no more; batches that were in progress there lose the same one."""
        if self.left and self.left[0] is actor:
            self.left.pop(0)


@contextmanager
def _as_if_here() -> Iterator[None]:
    """What goes wrong in the engine's actor goes wrong in this process: it ends where the other has ended (Ray Data
    would take an exception as the engine's refusal), and raises what the other has raised."""
    try:
        yield
    except RayError as error:
        if is_process_failure(error):
            os._exit(1)
        raise root_cause(error) from error


def actor_options(engine: EngineConfig) -> dict[str, Any]:
    """Resources and environment of the actor of one replica."""
    environment = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "JOBLIB_MULTIPROCESSING": "0",  # it comes with transformers; a killed engine left its semaphores in /dev/shm
    }
    if engine.num_gpus == 0:
        environment |= {**CPU_ENVIRONMENT, **engine_preload.ENVIRONMENT, "OMP_NUM_THREADS": str(_threads(engine))}
    return {
        "num_cpus": engine.num_cpus * engine.tensor_parallel,
        "num_gpus": engine.num_gpus * engine.tensor_parallel,
        "scheduling_strategy": "SPREAD",
        "max_restarts": 0,
        "runtime_env": {"env_vars": environment},
    }


def _threads(engine: EngineConfig) -> int:
    """Computing threads of a CPU engine: this machine's cores shared by the engines; on several nodes the CPUs that an
    engine asks for."""
    if sum(node["Alive"] for node in ray.nodes()) > 1:
        return max(1, int(engine.num_cpus))
    return max(1, usable_cpus() // engine.replicas)
