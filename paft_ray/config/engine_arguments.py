"""Which arguments of vLLM `engine.engine_kwargs` may hold: those that tune memory, batching, parallelism, quantization
or caching.

A list of what is allowed: vLLM has some 220 arguments, of which several import a class by its name, open files or send
data elsewhere, and a configuration may be someone else's (the config.json of a run). Values are single numbers and
words, never nested settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from paft_ray.config.passed_on import check_passed_on
from paft_ray.credentials import check_options

_Count = Annotated[int, Field(ge=0, lt=2**31)]
_Share = Annotated[float, Field(ge=0, le=1)]
_GiB = Annotated[float, Field(ge=0, lt=2**20)]
_MambaFormat = Literal["auto", "float32", "float16", "bfloat16"]

TUNING: dict[str, Any] = {
    # memory
    "gpu_memory_utilization": _Share,
    "cpu_offload_gb": _GiB,
    "kv_offloading_size": _GiB,
    "num_gpu_blocks_override": _Count,
    "enable_cumem_allocator": bool,
    "safetensors_load_strategy": Literal["lazy", "eager", "prefetch"],
    "max_parallel_loading_workers": _Count,
    # batching
    "max_num_seqs": _Count,
    "max_num_batched_tokens": _Count,
    "max_num_scheduled_tokens": _Count,
    "long_prefill_token_threshold": _Count,
    "enable_chunked_prefill": bool,
    "scheduling_policy": Literal["fcfs", "priority"],
    "scheduler_reserve_full_isl": bool,
    "async_scheduling": bool,
    "stream_interval": _Count,
    "watermark": _Share,
    # caching
    "block_size": _Count,
    "enable_prefix_caching": bool,
    "prefix_caching_hash_algo": Literal["sha256", "sha256_cbor", "xxhash", "xxhash_cbor"],
    "kv_cache_dtype": Literal[
        "auto",
        "float16",
        "bfloat16",
        "fp8",
        "fp8_e4m3",
        "fp8_e5m2",
        "fp8_inc",
        "fp8_per_token_head",
        "int8_per_token_head",
        "nvfp4",
    ],
    "kv_sharing_fast_prefill": bool,
    "disable_hybrid_kv_cache_manager": bool,
    "mamba_cache_dtype": _MambaFormat,
    "mamba_ssm_cache_dtype": _MambaFormat,
    "mamba_block_size": _Count,
    # parallelism
    "distributed_executor_backend": Literal["uni", "mp", "ray"],
    "pipeline_parallel_size": _Count,
    "prefill_context_parallel_size": _Count,
    "decode_context_parallel_size": _Count,
    "distributed_timeout_seconds": _Count,
    "disable_custom_all_reduce": bool,
    "enable_expert_parallel": bool,
    "enable_eplb": bool,
    "enable_dbo": bool,
    # quantization
    "quantization": Literal[
        "awq",
        "auto_awq",
        "awq_marlin",
        "gptq",
        "auto_gptq",
        "gptq_marlin",
        "fp8",
        "fp8_per_tensor",
        "fp8_per_block",
        "fp8_per_channel",
        "int8_per_channel_weight_only",
        "experts_int8",
        "moe_wna16",
        "compressed-tensors",
        "modelopt",
        "modelopt_fp4",
        "modelopt_mxfp8",
        "modelopt_mixed",
        "mxfp4",
        "gpt_oss_mxfp4",
        "mxfp8",
        "nvfp4_per_token",
        "quark",
        "inc",
        "humming",
        "online",
    ],
    # compilation and kernels
    "enforce_eager": bool,
    "max_cudagraph_capture_size": _Count,
    "optimization_level": _Count,
    "performance_mode": Literal["balanced", "interactivity", "throughput"],
    "disable_cascade_attn": bool,
    "disable_sliding_window": bool,
    "enable_flashinfer_autotune": bool,
    "attention_backend": Literal[
        "FLASH_ATTN",
        "FLASHINFER",
        "TRITON_ATTN",
        "FLEX_ATTENTION",
        "FLASHMLA",
        "FLASHINFER_MLA",
        "TRITON_MLA",
        "CUTLASS_MLA",
        "CPU_ATTN",
    ],
}
"""Argument -> type of its value."""

OWNED = {
    "model": "model.id",
    "model_weights": "model.id",
    "tokenizer": "model.id",
    "hf_config_path": "model.id",
    "revision": "model.revision",
    "tokenizer_revision": "model.revision",
    "code_revision": "model.revision",
    "dtype": "engine.precision",
    "max_model_len": "model.max_prompt_tokens",
    "tensor_parallel_size": "engine.tensor_parallel",
    "data_parallel_size": "engine.replicas",
    "kv_cache_memory_bytes": "engine.kv_cache_gib (on a GPU engine.engine_kwargs.gpu_memory_utilization)",
    "seed": "seed",
}
"""Argument -> the setting of ours that decides it."""


def check_engine_arguments(given: Mapping[str, Any]) -> None:
    """Raises `ValueError` for an argument that does not tune, that another setting decides, or whose value is not of
    its type."""
    check_options(given, "engine.engine_kwargs", free=True)
    check_passed_on(
        given,
        allowed=TUNING,
        owned=OWNED,
        nearest="gpu_memory_utilization, max_num_seqs, quantization",
        reason="not an argument that tunes memory, batching, caching, parallelism or quantization",
    )
