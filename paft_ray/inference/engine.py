"""Batch inference with vLLM through ray.data.llm: the only file that knows an engine. Prompts go in as token ids."""

from __future__ import annotations

import json
import os
import time
from collections import UserDict
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray._private.state import actors
from ray.data.llm import build_processor, vLLMEngineProcessorConfig
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from paft_ray.config import EngineConfig
from paft_ray.console import say
from paft_ray.errors import StageError
from paft_ray.inference.settings import engine_settings

ANSWERS = pa.schema(
    [
        ("key", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("top_ids", pa.list_(pa.int32())),
        ("top_logprobs", pa.list_(pa.float64())),
        ("latency_s", pa.float64()),
        ("error", pa.string()),
    ]
)
_ERROR = "__inference_error__"
_SAY_EVERY_S = 15


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What one engine answered."""

    answers: pa.Table
    """`key` (as given), `token_ids` [generated], `top_ids` and `top_logprobs` [asked tokens] of the first generated position, `latency_s` from the
    start of a request's computation to its last token. Failed rows are absent."""
    num_failed: int
    time_s: float
    """Start of the engine included."""
    nodes: tuple[str, ...]
    """Address of the node of each replica of the engine."""
    engine_starts: int = 1


def generate(requests: ray.data.Dataset, *, name: str, model_path: str, engine: EngineConfig, max_model_len: int, seed: int = 0) -> Generated:
    """Answers to requests: rows with `key` (string), `prompt_ids` (token ids) and `sampling` (JSON of vLLM sampling parameters).

    `name` opens the console lines of its progress.

    The engine belongs to a child task, so that its resources are free again however this ends. Raises `StageError` where the engine cannot start or
    dies, more rows fail than allowed (quoting the first error), or the time limit ends.
    """
    begin = time.perf_counter()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    running = _answer.options(scheduling_strategy=here).remote(requests, _processor_config(model_path, engine, max_model_len, seed), name)
    try:
        answers, nodes = ray.get(running, timeout=engine.timeout_s)
    except GetTimeoutError:
        free = ray.available_resources()
        ray.cancel(running, force=True)
        raise StageError(
            f"the engine gave no end within engine.timeout_s={engine.timeout_s} s and was ended; free while it ran: CPU {free.get('CPU', 0):g}, "
            f"GPU {free.get('GPU', 0):g}; an engine takes {engine.num_cpus:g} CPUs and {engine.num_gpus:g} GPUs; give it more time or resources"
        ) from None
    except RayError as error:
        raise StageError(f"the engine failed: {_last_line(error)}; the Ray logs have the whole story") from error
    except KeyboardInterrupt:
        ray.cancel(running, force=True)
        raise
    good = accept(answers, engine.max_failed_fraction)
    return Generated(answers=good, num_failed=answers.num_rows - good.num_rows, time_s=time.perf_counter() - begin, nodes=nodes)


def accept(answers: pa.Table, max_failed_fraction: float) -> pa.Table:
    """The rows that did not fail. Raises `StageError`, quoting the first error, where a larger share failed."""
    failed = answers.filter(pc.field("error") != "")
    if failed.num_rows > max_failed_fraction * answers.num_rows:
        raise StageError(
            f"{failed.num_rows} of {answers.num_rows} rows failed (engine.max_failed_fraction={max_failed_fraction}); "
            f"the first, {failed['key'][0].as_py()}: {failed['error'][0].as_py()}"
        )
    return answers.filter(pc.field("error") == "").drop_columns("error")


@ray.remote(num_cpus=0, max_retries=0)
def _answer(requests: ray.data.Dataset, config: vLLMEngineProcessorConfig, name: str) -> tuple[pa.Table, tuple[str, ...]]:
    """(schema `ANSWERS` in the order of completion, node of each replica)."""
    before = _replicas()
    started: dict[str, str] = {}
    answered = build_processor(config, preprocess=_to_engine, postprocess=_from_engine)(requests)
    batches: list[pa.Table] = []
    said = begin = time.perf_counter()
    say(f"{name}: starts an engine")
    for batch in answered.iter_batches(batch_size=None, batch_format="pyarrow"):
        rows = [{**row, "error": row.get(_ERROR) or ""} for row in batch.to_pylist()]
        batches.append(pa.Table.from_pylist(rows, schema=ANSWERS))
        started |= _replicas()
        if (now := time.perf_counter()) - said > _SAY_EVERY_S:
            say(f"{name}: {sum(table.num_rows for table in batches)} requests answered, {now - begin:.0f} s")
            said = now
    return pa.concat_tables(batches).combine_chunks(), tuple(sorted(started[actor] for actor in started.keys() - before.keys()))


def _replicas() -> dict[str, str]:
    """Actor id -> address of the node, of the engine replicas that this job has started.

    Ray Data does not tell where its actors run, and ray.util.state asks the dashboard, which a cluster may lack.
    """
    found = actors(job_id=ray.JobID.from_hex(ray.get_runtime_context().get_job_id()))
    addresses = {key: str(actor["Address"]["IPAddress"]) for key, actor in found.items() if "vLLMEngineStageUDF" in actor["ActorClassName"]}
    return {key: address for key, address in addresses.items() if address}


def _processor_config(model_path: str, engine: EngineConfig, max_model_len: int, seed: int) -> vLLMEngineProcessorConfig:
    kwargs: dict[str, Any] = {
        **engine_settings(engine, max_model_len),
        "seed": seed,
        "trust_remote_code": False,
        "distributed_executor_backend": "uni" if engine.tensor_parallel == 1 else "mp",
    }
    environment = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    if engine.num_gpus == 0:
        # Without vLLM's multi-process workers the engine core computes on every core; with them it keeps one back and binds the rest.
        environment |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": str(_threads(engine))}
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
    # Arrow would turn dicts with different keys into one struct (missing keys null, their integers floats), which kills the engine's input thread
    # without an error; it leaves a UserDict as it is.
    return {"key": row["key"], "tokenized_prompt": [int(t) for t in row["prompt_ids"]], "sampling_params": UserDict(json.loads(row["sampling"]))}


def _from_engine(row: dict[str, Any]) -> dict[str, Any]:
    first = row["logprobs"][0] if row.get("logprobs") is not None and len(row["logprobs"]) else {}
    top = {int(token): float(value["logprob"]) for token, value in first.items() if value is not None}
    times = row.get("metrics") or {}
    return {
        "key": row["key"],
        "token_ids": [int(t) for t in row["generated_tokens"]],
        "top_ids": list(top),
        "top_logprobs": list(top.values()),
        "latency_s": float(times["last_token_ts"] - times["scheduled_ts"]) if "last_token_ts" in times else None,
        _ERROR: "",
    }


def _threads(engine: EngineConfig) -> int:
    """Computing threads of a CPU engine: this machine's cores shared by the engines; on several nodes the CPUs that an engine asks for."""
    if sum(node["Alive"] for node in ray.nodes()) > 1:
        return max(1, int(engine.num_cpus))
    return max(1, len(os.sched_getaffinity(0)) // engine.replicas)


def _last_line(error: BaseException) -> str:
    """The last line of a remote traceback: the exception that began it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:500] if lines else type(error).__name__
