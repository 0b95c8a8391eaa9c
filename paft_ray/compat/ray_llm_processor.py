"""ray.data.llm: the processor of an engine, changed where it has no setting (2.60.0). Does not import vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paft_ray.compat.moved import moved

ERROR_COLUMN = "__inference_error__"
"""The column in which Ray carries a row's error past the engine. A row that has it set on the way in is not asked.
Public replacement: none; `should_continue_on_error` documents it for rows that come out."""
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


def replace_engine(processor: Any, engine: type, **arguments: Any) -> None:
    """Makes the engine's stage of a processor run `engine`, a subclass of Ray's own, with more constructor arguments,
    and leaves every restart of a lost actor to the caller.

    The stage is copied: an assignment would derive its resources anew, without what it was given. Public replacement:
    `ProcessorBuilder.build(override_stage_config_fn=)` for the restarts, none for the class.
    """
    replaced = 0
    for name in processor.list_stage_names():
        stage = processor.get_stage_by_name(name)
        stage.map_batches_kwargs["max_restarts"] = 0
        if issubclass(engine, stage.fn):
            update: dict[str, Any] = {
                "fn": engine,
                "fn_constructor_kwargs": {**stage.fn_constructor_kwargs, **arguments},
            }
            processor.stages[name] = stage.model_copy(update=update)
            replaced += 1
    assert replaced == 1, f"{replaced} stages of {processor.list_stage_names()} run Ray's engine"
