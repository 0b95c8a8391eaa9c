"""ray.data.llm: the processor of an engine, changed where it has no setting (2.60.0). Does not import vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from paft_ray.compat.moved import moved

ERROR_COLUMN = "__inference_error__"
"""The column in which Ray carries a row's error past the engine. A row that has it set on the way in is not asked.
Public replacement: none; `should_continue_on_error` documents it for rows that come out."""
_RESOURCES = ("num_cpus", "num_gpus", "resources", "accelerator_type", "runtime_env")
_MAKE_TELEMETRY = "get_or_create_telemetry_agent"


class _NoTelemetry:
    """In place of Ray's actor for usage counts."""

    def push_telemetry_report(self, telemetry: object) -> None:
        """Nothing."""


@contextmanager
def without_telemetry() -> Iterator[None]:
    """A processor that is built in the block starts no actor for usage counts.

    Ray starts it (5 s) and keeps it where usage statistics are off, too. Where its maker is not found the actor is
    started: only time is lost. Public replacement: none; the argument `telemetry_agent` is ignored.
    """
    from ray.llm._internal.batch.processor import vllm_engine_proc

    made = getattr(vllm_engine_proc, _MAKE_TELEMETRY, None)
    if made is None:
        moved(f"Ray's {_MAKE_TELEMETRY}", "each engine starts an actor for usage counts (5 s)")
        yield
        return
    setattr(vllm_engine_proc, _MAKE_TELEMETRY, _NoTelemetry)
    try:
        yield
    finally:
        setattr(vllm_engine_proc, _MAKE_TELEMETRY, made)


class _NumberedNames:
    """A name for each actor that Ray Data makes, with its number at the end."""

    def __init__(self) -> None:
        self.prefix, self.number = f"engine-proxy-{uuid4().hex}", -1

    def __call__(self) -> dict[str, str]:
        self.number += 1
        return {"name": f"{self.prefix}-{self.number}"}


def replace_engine(processor: Any, proxy: type, **arguments: Any) -> None:
    """Makes the engine's stage of a processor run `proxy` instead, in actors that take no resources, whose names end
    with a number from 0; it gets the arguments of Ray's stage and more. Every restart of a lost actor is left to the
    caller.

    The stage is copied: an assignment would derive its resources anew. Public replacement:
    `ServeDeploymentProcessorConfig`, for engines that run in Ray Serve.
    """
    from ray.llm._internal.batch.stages import vLLMEngineStage

    replaced = 0
    for name in processor.list_stage_names():
        stage = processor.get_stage_by_name(name)
        stage.map_batches_kwargs["max_restarts"] = 0
        if isinstance(stage, vLLMEngineStage):
            kept = {key: value for key, value in stage.map_batches_kwargs.items() if key not in _RESOURCES}
            update: dict[str, Any] = {
                "fn": proxy,
                "fn_constructor_kwargs": {**stage.fn_constructor_kwargs, **arguments},
                "map_batches_kwargs": {**kept, "num_cpus": 0, "ray_remote_args_fn": _NumberedNames()},
            }
            processor.stages[name] = stage.model_copy(update=update)
            replaced += 1
    assert replaced == 1, f"{replaced} stages of {processor.list_stage_names()} run Ray's engine"
