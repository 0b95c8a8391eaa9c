"""Ray's engine stage and the vLLM engine in it, for the actor that runs them (ray 2.60.0, vllm 0.32.0). Imports
vLLM."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF as EngineStage

__all__ = ["EngineStage", "end_answers_early", "load_weights", "process_ends_with_engine"]
"""`EngineStage`: the actor class of ray.data.llm. Subclassed to change its model's weights while it runs; public
replacement: adapters (`dynamic_lora_loading_path`), not for full weights and 3.4 times slower on a CPU."""
_RESET_TRIES, _RESET_WAIT_S = 20, 0.1


def end_answers_early(
    stage: EngineStage, watch: Callable[[Mapping[str, Any] | None], Callable[[Sequence[int]], int | None] | None]
) -> None:
    """Ends an answer of a stage's engine where what `watch` gives for its sampling parameter `extra_args` gives a
    number for its tokens so far: it has that many tokens, however many the engine was ahead.

    Public replacement: none in ray.data.llm; `AsyncLLM.generate`, whose stream is closed, is public itself.
    """
    generate = stage.llm.engine.generate

    def generate_until_decided(*, sampling_params: Any, **request: Any) -> AsyncIterator[Any]:
        stream, look = generate(sampling_params=sampling_params, **request), watch(sampling_params.extra_args)
        return stream if look is None else _until_decided(stream, look)

    stage.llm.engine.generate = generate_until_decided


async def _until_decided(
    stream: AsyncGenerator[Any, None], look: Callable[[Sequence[int]], int | None]
) -> AsyncIterator[Any]:
    """vLLM's outputs of a request; the last one is cut where `look` gives a number, and vLLM is told before it is
    given on."""
    async with aclosing(stream):
        async for output in stream:
            answer = output.outputs[0]
            num = look(answer.token_ids)
            if num is not None:
                break
            yield output
        else:
            return
    answer.token_ids = answer.token_ids[:num]
    answer.logprobs = answer.logprobs and answer.logprobs[:num]
    output.finished = True
    yield output


async def load_weights(stage: EngineStage, folder: str) -> None:
    """Loads the weights of a model folder into a stage's engine, in place, and empties its prefix cache, which holds
    values of the weights before.

    The stage answers nothing meanwhile. Raises `RuntimeError` where the cache cannot be emptied. Public replacement:
    `AsyncLLM.start_weight_update` and what follows it, once it takes a folder.
    """
    engine = stage.llm.engine
    await engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})
    await engine.collective_rpc("refresh_tied_heads")
    await empty_prefix_cache(engine)


async def empty_prefix_cache(engine: Any) -> None:
    """Forgets all computed prefixes of an engine that answers nothing.

    vLLM returns False, and keeps the cache, while one of its blocks is in use: a request that has just ended may not
    have given them back yet, so it is asked for two seconds. Raises `RuntimeError` after that.
    """
    for _ in range(_RESET_TRIES):
        if await engine.reset_prefix_cache():
            return
        await asyncio.sleep(_RESET_WAIT_S)
    raise RuntimeError("vLLM kept its prefix cache after a change of weights; it would answer for two models at once")


@contextmanager
def process_ends_with_engine() -> Iterator[None]:
    """Ends this process where vLLM says in the block that its engine's process is gone, as Ray's stage does: an
    exception would be taken as the engine's refusal, and would not be worth another start.

    `EngineDeadError` is importable, but not part of vLLM's documented interface. Public replacement: none.
    """
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except EngineDeadError:
        os._exit(1)
