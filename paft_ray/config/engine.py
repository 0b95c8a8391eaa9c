"""Section `engine`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from paft_ray.config.base import Fraction, Options, Positive, Precision, Section, fast_precision
from paft_ray.config.engine_arguments import check_engine_arguments


class EngineConfig(Section):
    """vLLM through ray.data.llm; used by synthesis, scoring and evaluation."""

    replicas: Positive = 1
    """Engines side by side."""
    tensor_parallel: Positive = 1
    """GPUs (or processes) that share one engine."""
    num_cpus: Annotated[float, Field(gt=0)] = 1
    """Logical CPUs of one engine."""
    num_gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs of one engine per tensor-parallel rank; 0 runs on the CPU."""
    precision: Precision = Field(default_factory=lambda values: fast_precision(values["num_gpus"]))
    """Dtype of weights and activations; default: bf16 on a GPU and on CPUs that multiply it natively, else
    fp32."""
    kv_cache_gib: Annotated[float, Field(gt=0)] = 1
    """Key-value cache on the CPU in GiB (on a GPU set `engine_kwargs.gpu_memory_utilization`)."""
    adapters: Literal["merge", "lora", "auto"] = "merge"
    """How trained adapters answer. merge: each is added into the base's weights, which are loaded one model after
    another. lora: all are served upon the base, without merging or loading, but with more work for each token (3.4
    times as much time on a CPU). auto: what takes less time here, measured with one adapter before the others
    answer."""
    batch_rows: Positive = 64
    """Rows per Ray Data batch handed to the engine."""
    max_failed_fraction: Fraction = 0.01
    """A larger fraction of failed rows fails the stage."""
    timeout_s: Positive = 3600
    """Longest time of one inference stage in seconds, for each model that it answers for."""
    stall_timeout_s: Positive = 900
    """Longest time without any answer in seconds, the start of the engine included; then the engine is killed."""
    max_restarts: Annotated[int, Field(ge=0)] = 2
    """Restarts of a crashed engine without a new answer in between; only requests without an answer are retried."""
    engine_kwargs: Options = Field(default_factory=dict)
    """Further vLLM engine arguments, of those that tune memory, batching, caching, parallelism or quantization
    (listed in `paft_ray/config/engine_arguments.py`)."""

    @field_validator("engine_kwargs")
    @classmethod
    def _tuning(cls, given: Options) -> Options:
        check_engine_arguments(given)
        return given


def engine_key(engine: EngineConfig) -> dict[str, Any]:
    """The settings that decide answers."""
    return engine.model_dump(mode="json", include={"precision", "engine_kwargs"})


def trained_engine_key(engine: EngineConfig) -> dict[str, Any]:
    """Those that decide answers of trained models, too."""
    return engine_key(engine) | ({} if engine.adapters == "merge" else {"adapters": engine.adapters})
