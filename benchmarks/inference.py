"""Rows/s and generated tokens/s of scoring and synthesis, through Ray Data as the stages run them, against bare
`vllm.LLM` on the same requests.

`python -m benchmarks.inference`. Every measurement is a process of its own, the two take turns, the engine's settings
are the same. Both are timed from the start of the first row's computation (ours: the arrival of the first block of
answers less the longest computation in it) to the last answer: starts are left out. Hit rates of the prefix cache are
the bare engine's."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.results import interleaved, paired, record
from paft_ray.config import EngineConfig, ModelConfig, builtin
from paft_ray.inference.grid import Grid
from paft_ray.inference.vllm_args import CPU_ENVIRONMENT, engine_settings
from paft_ray.models.local import find_model
from paft_ray.models.resolve import load_tokenizer, resolve_model
from paft_ray.prompts.prompt_set import read_templates
from paft_ray.tasks.readers import read_examples
from paft_ray.tasks.task import load_task

LONGEST = 256
ENGINE = EngineConfig()
SAMPLING = {
    "max_tokens": 80,
    "temperature": 0.9,
    "top_p": 0.95,
    "detokenize": False,
    "structured_outputs": {"regex": "[A-Za-z ,.]{20,400}"},
}
"""Of synthesis, as the stage sets it."""


def ours(requests: list[dict[str, Any]], model: str) -> dict[str, float]:
    """Rows and generated tokens per second."""
    from paft_ray.cli.session import ray_session

    with ray_session():
        import ray
        import ray.data

        from paft_ray.inference.engine import answers
        from paft_ray.inference.engine_pool import stage_engines
        from paft_ray.inference.model_weights import ModelWeights

        base, own = find_model("demo", None), ModelWeights(key={})
        rows = ray.data.from_items(
            [{**row, "request": row["key"], "weights": own.id} for row in requests],
            override_num_blocks=-(-len(requests) // ENGINE.batch_rows),
        )
        begin, num_tokens = 0.0, 0
        with stage_engines() as pool:
            engines, _ = pool.engines(base, ENGINE, LONGEST)
            for reference in answers.remote(rows, engines, {own.id: own}):
                table = ray.get(reference)
                begin = begin or time.perf_counter() - max(table["latency_s"].to_pylist())
                num_tokens += sum(map(len, table["token_ids"].to_pylist()))
            seconds = time.perf_counter() - begin
    return {"rows": len(requests) / seconds, "tokens": num_tokens / seconds}


def bare(requests: list[dict[str, Any]], model: str) -> dict[str, float]:
    """The same of the engine alone, and its prefix cache's hit rate."""
    os.environ |= {**CPU_ENVIRONMENT, "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    engine = LLM(model=model, **engine_settings(ENGINE, LONGEST), disable_log_stats=False)
    sampling = []
    for row in requests:
        given = json.loads(row["sampling"])
        if "structured_outputs" in given:
            given["structured_outputs"] = StructuredOutputsParams(**given["structured_outputs"])
        sampling.append(SamplingParams(**given))
    prompts = [{"prompt_token_ids": row["prompt_ids"]} for row in requests]
    begin = time.perf_counter()
    answered = engine.generate(prompts, sampling, use_tqdm=False)
    seconds = time.perf_counter() - begin
    counts = {
        metric.name: getattr(metric, "value", 0)
        for metric in engine.get_metrics()
        if metric.name.startswith("vllm:prefix_cache")
    }
    hits = counts.get("vllm:prefix_cache_hits", 0) / max(1, counts.get("vllm:prefix_cache_queries", 1))
    tokens = sum(len(output.outputs[0].token_ids) for output in answered)
    return {"rows": len(requests) / seconds, "tokens": tokens / seconds, "hits": hits}


def scoring(num_rows: int) -> list[dict[str, Any]]:
    """Requests of the stage `score` on the demo task: templates x examples, neighbors under one template."""
    task = load_task("demo")
    templates = read_templates(builtin("tasks", "data", "demo", "held_out_templates.jsonl"))
    examples = tuple(read_examples(task, task.sources["train"]))[: -(-num_rows // len(templates))]
    grid = Grid(
        task=task,
        templates=tuple(templates),
        examples=examples,
        model=ModelConfig(max_prompt_tokens=192),
        model_files=find_model("demo", None),
    )
    return grid.requests(range(grid.num_rows))[:num_rows]


def synthesis(num_rows: int) -> list[dict[str, Any]]:
    """Requests like those of the stage `synthesize`: 80 sampled tokens each."""
    tokenizer = load_tokenizer(resolve_model("demo", None))
    rows = []
    for number in range(num_rows):
        message = [
            {
                "role": "user",
                "content": f"Write instruction number {number} for telling whether a film review is positive or "
                "negative.",
            }
        ]
        text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        sampling = {**SAMPLING, "seed": number}
        rows.append(
            {
                "key": str(number),
                "prompt_ids": list(tokenizer(text, add_special_tokens=False)["input_ids"]),
                "sampling": json.dumps(sampling),
            }
        )
    return rows


WORK = {"scoring": (scoring, 640, "rows"), "synthesis": (synthesis, 256, "tokens")}


def main(pairs: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name, (make, num_rows, unit) in WORK.items():
            given = Path(scratch) / f"{name}.json"
            given.write_text(json.dumps(make(num_rows)))
            found: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
            for kind in interleaved(found, pairs):
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.inference", kind, str(given)],
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                found[kind].append(json.loads(done.stdout.splitlines()[-1]))
                print(
                    f"{name}, {kind}: " + ", ".join(f"{value:.3g} {key}" for key, value in found[kind][-1].items()),
                    flush=True,
                )
            values = [[one[unit] for one in found[kind]] for kind in ("ours", "bare")]
            record([paired(name, *values, peer_name="bare vllm.LLM", unit=f"{unit}/s", more_is_better=True)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("measurement", nargs="*", help="ours|bare FILE: one measurement, in this process")
    arguments = parser.parse_args()
    if arguments.measurement:
        kind, file = arguments.measurement
        print(
            json.dumps(
                {"ours": ours, "bare": bare}[kind](json.loads(Path(file).read_text()), resolve_model("demo", None))
            )
        )
    else:
        main(arguments.pairs)
