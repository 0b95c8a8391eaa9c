"""Batch inference with vLLM through ray.data.llm: the only file that knows an engine. Prompts go in as token ids."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

import ray.data
from ray.data.llm import build_processor, vLLMEngineProcessorConfig

from paft_ray.config import EngineConfig
from paft_ray.errors import StageError

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What one engine answered."""

    rows: list[dict[str, Any]]
    """`key` (as given), `token_ids` [generated], `top_ids` and `top_logprobs` [asked tokens] of the first generated position."""
    num_failed: int
    time_s: float
    """Start of the engine included."""
    engine_starts: int = 1


def generate(requests: ray.data.Dataset, *, model_path: str, engine: EngineConfig, max_model_len: int, seed: int = 0) -> Generated:
    """Answers to requests: rows with `key` (string), `prompt_ids` (token ids) and `sampling` (JSON of vLLM sampling parameters).

    Raises `StageError` where more rows fail than allowed (quoting the first error) or the time limit ends.
    """
    processor = build_processor(_processor_config(model_path, engine, max_model_len, seed), preprocess=_to_engine, postprocess=_from_engine)
    begin = time.perf_counter()
    answered = processor(requests)
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="paft-engine")
    try:
        rows = pool.submit(answered.take_all).result(timeout=engine.timeout_s)
    except FutureTimeout:
        raise StageError(
            f"the engine gave no end within engine.timeout_s={engine.timeout_s} s; free resources now: {ray.available_resources()}; "
            f"look at the Ray logs, or give the engine more time"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    good = [row for row in rows if not row.get("__inference_error__")]
    failed = [row for row in rows if row.get("__inference_error__")]
    if len(failed) > engine.max_failed_fraction * len(rows):
        raise StageError(
            f"{len(failed)} of {len(rows)} rows failed (allowed share {engine.max_failed_fraction}); the first: {failed[0]['__inference_error__']}"
        )
    return Generated(rows=good, num_failed=len(failed), time_s=time.perf_counter() - begin)


def _processor_config(model_path: str, engine: EngineConfig, max_model_len: int, seed: int) -> vLLMEngineProcessorConfig:
    kwargs: dict[str, Any] = {
        "max_model_len": max_model_len,
        "dtype": _DTYPES[engine.precision],
        "tensor_parallel_size": engine.tensor_parallel,
        "seed": seed,
        "trust_remote_code": False,
        "enable_prefix_caching": True,
        "max_logprobs": 128,
    }
    environment = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    if engine.num_gpus == 0:
        # On a CPU compiling costs a minute and gains nothing here; in one process the engine starts in 5 s instead of 22 s and keeps every core;
        # blocks of 32 tokens let short shared prefixes hit the cache (the default is 128).
        kwargs |= {"enforce_eager": True, "block_size": 32, "max_num_seqs": 64, "distributed_executor_backend": "uni"}
        threads = max(1, (os.cpu_count() or 1) // engine.replicas)
        environment |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_KVCACHE_SPACE": str(max(1, round(engine.kv_cache_gib))),
            "OMP_NUM_THREADS": str(threads),
        }
        bundles = [{"CPU": engine.num_cpus}] * engine.tensor_parallel
    else:
        bundles = [{"CPU": engine.num_cpus, "GPU": engine.num_gpus}] * engine.tensor_parallel
    return vLLMEngineProcessorConfig(
        model_source=model_path,
        engine_kwargs={**kwargs, **engine.engine_kwargs},
        placement_group_config={"bundles": bundles},
        runtime_env={"env_vars": environment},
        log_engine_metrics=False,
        should_continue_on_error=True,
        batch_size=engine.batch_rows,
        concurrency=(engine.replicas, engine.replicas),
        chat_template_stage={"enabled": False},
        tokenize_stage={"enabled": False},
        detokenize_stage={"enabled": False},
    )


def _to_engine(row: dict[str, Any]) -> dict[str, Any]:
    return {"key": row["key"], "tokenized_prompt": [int(t) for t in row["prompt_ids"]], "sampling_params": json.loads(row["sampling"])}


def _from_engine(row: dict[str, Any]) -> dict[str, Any]:
    first = row["logprobs"][0] if row.get("logprobs") is not None and len(row["logprobs"]) else {}
    top = {int(token): float(value["logprob"]) for token, value in first.items() if value is not None}
    return {
        "key": row["key"],
        "token_ids": [int(t) for t in row["generated_tokens"]],
        "top_ids": list(top),
        "top_logprobs": list(top.values()),
        "__inference_error__": "",
    }
