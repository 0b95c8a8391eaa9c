"""Batch inference with vLLM through ray.data.llm: with engine_actor.py, weight_swapping.py and engine_preload.py the
only file that knows an engine. Prompts go in as token ids."""

from __future__ import annotations

import json
from collections import UserDict
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data.llm import build_processor, vLLMEngineProcessorConfig

from paft_ray.compat.lazy_imports import uncollected, without
from paft_ray.compat.ray_llm_processor import ERROR_COLUMN, replace_engine, without_telemetry
from paft_ray.compat.vllm import WORKER_EXTENSION, cpu_kernels
from paft_ray.errors import one_line
from paft_ray.inference.engine_actor import EngineProxy, Engines
from paft_ray.inference.model_weights import ModelWeights
from paft_ray.inference.vllm_args import adapter_settings, engine_settings

ANSWERS = pa.schema(
    [
        ("key", pa.string()),
        ("request", pa.string()),
        ("weights", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("top_ids", pa.list_(pa.int32())),
        ("top_logprobs", pa.list_(pa.float64())),
        ("latency_s", pa.float64()),
        ("error", pa.string()),
    ]
)
"""One answer; a failed request has only `key`, `request`, `weights` and a text in `error`. `request` is its identity,
`weights` the id of the model's weights, `top_ids` and `top_logprobs` belong to the first generated position,
`latency_s` lasts from the start of the computation to the last token."""


_ENGINE_COLUMNS = (("replica", pa.string()), ("node", pa.string()))
ARRIVING = pa.schema([*ANSWERS, *(pa.field(*column) for column in _ENGINE_COLUMNS)])
"""`ANSWERS`, and which engine gave them."""


@ray.remote(num_cpus=0, max_retries=0)
def answers(requests: ray.data.Dataset, engines: Engines, weights: Mapping[str, ModelWeights]) -> Iterator[pa.Table]:
    """Answers of running or starting engines as they come (schema `ANSWERS`, and the columns that `take_nodes` takes),
    to rows with `key`, `request`, `weights`, `prompt_ids` and `sampling`. `weights`: by id.

    Raises the engine's error: Ray Data alone would restart it forever and retry the rows in progress, so restarts are
    left to the caller.
    """
    # Saves seconds: only the engine's actor needs vLLM, nobody scikit-learn. The actor has another environment, so it
    # is never this process.
    with uncollected(), without("vllm", "sklearn"), without_telemetry():
        processor = build_processor(processor_config(engines), preprocess=_to_engine, postprocess=_from_engine)
    replace_engine(processor, EngineProxy, actors=engines.actors, weights=weights)
    for batch in processor(requests).iter_batches(batch_size=None, batch_format="pyarrow"):
        rows = [
            {**row, "error": one_line(error) if (error := row.get(ERROR_COLUMN)) else ""} for row in batch.to_pylist()
        ]
        if rows:
            yield pa.Table.from_pylist(rows, schema=ARRIVING)


def take_nodes(rows: pa.Table) -> tuple[pa.Table, dict[str, str]]:
    """(Answers of the schema `ANSWERS`, engine replica -> address of the node that it ran on) from a table of
    `answers`."""
    nodes = dict(zip(rows["replica"].to_pylist(), rows["node"].to_pylist(), strict=True))
    return rows.select(ANSWERS.names), {replica: node for replica, node in nodes.items() if replica}


def processor_config(engines: Engines) -> vLLMEngineProcessorConfig:
    """Ray's settings of a pipeline through these engines, whose actors start with the model's folder on their own
    nodes."""
    settings = engines.settings
    kwargs: dict[str, Any] = {
        "distributed_executor_backend": "uni" if settings.tensor_parallel == 1 else "mp",
        **engine_settings(settings, engines.max_model_len),
        **adapter_settings(engines.adapter_rank),
        "worker_extension_cls": WORKER_EXTENSION,
        "seed": 0,  # of no effect: a request is greedy or has a seed of its own
    }
    if settings.num_gpus == 0:
        kwargs["ir_op_priority"] = cpu_kernels()
    return vLLMEngineProcessorConfig(
        model_source=engines.base.path,
        engine_kwargs=kwargs,
        log_engine_metrics=False,
        should_continue_on_error=True,
        batch_size=settings.batch_rows,
        concurrency=(settings.replicas, settings.replicas),
        chat_template_stage={"enabled": False},
        tokenize_stage={"enabled": False},
        detokenize_stage={"enabled": False},
    )


def _to_engine(row: dict[str, Any]) -> dict[str, Any]:
    # Arrow would turn dicts with different keys into one struct (missing keys null, their integers floats), which kills
    # the engine's input thread without an error; it leaves a UserDict as it is.
    if row.get("error"):  # the engine lets it pass
        return {"key": row["key"], "request": row["request"], "weights": row["weights"], ERROR_COLUMN: row["error"]}
    prompt, sampling = [int(t) for t in row["prompt_ids"]], UserDict(json.loads(row["sampling"]))
    return {
        "key": row["key"],
        "request": row["request"],
        "weights": row["weights"],
        "tokenized_prompt": prompt,
        "sampling_params": sampling,
    }


def _from_engine(row: dict[str, Any]) -> dict[str, Any]:
    first = row["logprobs"][0] if row.get("logprobs") is not None and len(row["logprobs"]) else {}
    top = {int(token): float(value["logprob"]) for token, value in first.items() if value is not None}
    times = row.get("metrics") or {}
    return {
        "key": row["key"],
        "request": row["request"],
        "weights": row["weights"],
        "token_ids": [int(t) for t in row["generated_tokens"]],
        "top_ids": list(top),
        "top_logprobs": list(top.values()),
        "latency_s": float(times["last_token_ts"] - times["scheduled_ts"]) if "last_token_ts" in times else None,
        "replica": row.get("replica"),
        "node": row.get("node"),
        ERROR_COLUMN: "",
    }
