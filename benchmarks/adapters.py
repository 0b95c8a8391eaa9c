"""Evaluating several adapters: multi-LoRA in one engine against merged weights with an engine start each.

`python benchmarks/adapters.py RUN [ROWS]`, RUN a finished run with LoRA adapters. Every part is a process of its own
with vLLM's bare engine under the settings of paft_ray/inference/vllm_args.py; the prompts are held-out templates x test
rows, one answer token each. Seconds until the last adapter has answered, for the adapters of the run and, by the
measured parts, for other numbers of adapters and rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}

from paft_ray.config import parse_config
from paft_ray.inference.grid import Grid
from paft_ray.inference.vllm_args import engine_settings
from paft_ray.models.local import find_model
from paft_ray.models.resolve import resolve_model
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.stages.prepare import examples_of
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task

_LONGEST = 256  # tokens of a prompt with its answer


def prompts(run: Store, rows: int) -> list[list[int]]:
    """Token ids of the first `rows` cells of the run's evaluation."""
    config = parse_config(run.read_json("config.json"), "config.json")
    templates = PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet")).split("held_out").templates
    found = find_model(config.model.id, config.model.revision)
    examples = tuple(examples_of(run, "test"))
    grid = Grid(
        task=load_task(config.task), templates=templates, examples=examples, model=config.model, model_files=found
    )
    return [request["prompt_ids"] for request in grid.requests(list(range(rows)))][:rows]


def child(work: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the start and of answering all prompts with each adapter (None: the weights as they are)."""
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    begin = time.perf_counter()
    lora = (
        {"enable_lora": True, "max_loras": 1, "max_lora_rank": max(8, work["rank"])}
        if work["adapters"] != [None]
        else {}
    )
    engine = LLM(model=work["model"], **work["settings"], **lora)
    started = time.perf_counter() - begin
    sampling = SamplingParams(max_tokens=1, temperature=0.0, logprobs=8)
    asked = [{"prompt_token_ids": ids} for ids in work["prompts"]]
    answering = []
    for number, adapter in enumerate(work["adapters"], start=1):
        begin = time.perf_counter()
        engine.generate(
            asked,
            sampling,
            use_tqdm=False,
            lora_request=LoRARequest(f"a{number}", number, adapter) if adapter else None,
        )
        answering.append(time.perf_counter() - begin)
    return {"start_s": started, "answer_s": answering}


def in_process(work: dict[str, Any], scratch: str) -> dict[str, Any]:
    given, reported = Path(scratch) / "work.json", Path(scratch) / "reported.json"
    given.write_text(json.dumps(work))
    begin = time.perf_counter()
    subprocess.run([sys.executable, __file__, "--child", str(given), str(reported)], check=True)
    return {**json.loads(reported.read_text()), "whole_s": time.perf_counter() - begin}


def main(folder: str, rows: int) -> None:
    """Prints the table."""
    from paft_ray.training.export import merge_adapter

    run = Store(folder)
    config = parse_config(run.read_json("config.json"), "config.json")
    base = resolve_model(config.model.id, config.model.revision)
    adapters = [run.path(model["path"]) for model in run.read_json("train/manifest.json")["models"]]
    assert config.train.lora is not None
    shared = {
        "prompts": prompts(run, rows),
        "settings": engine_settings(config.engine, _LONGEST),
        "rank": config.train.lora.rank,
    }
    with tempfile.TemporaryDirectory() as scratch:
        multi = in_process({**shared, "model": base, "adapters": adapters}, scratch)
        merged, merging = [], []
        for number, adapter in enumerate(adapters):
            begin = time.perf_counter()
            merge_adapter(base, adapter, f"{scratch}/merged{number}", precision=config.engine.precision)
            merging.append(time.perf_counter() - begin)
            merged.append(in_process({**shared, "model": f"{scratch}/merged{number}", "adapters": [None]}, scratch))
    alone = [part["answer_s"][0] for part in merged]
    print(f"{len(adapters)} adapters x {rows} prompts, {config.engine.precision}")
    print("| | starts, s | merging, s | answering, s | in all, s |\n|---|---|---|---|---|")
    print(
        f"| multi-LoRA, one engine | {multi['whole_s'] - sum(multi['answer_s']):.0f} | – | "
        f"{sum(multi['answer_s']):.0f} | {multi['whole_s']:.0f} |"
    )
    starts = sum(part["whole_s"] for part in merged) - sum(alone)
    print(
        f"| merged, an engine each | {starts:.0f} | {sum(merging):.0f} | {sum(alone):.0f} | "
        f"{starts + sum(merging) + sum(alone):.0f} |"
    )
    print(
        f"rows/s: multi-LoRA {len(adapters) * rows / sum(multi['answer_s']):.1f}, merged "
        f"{len(adapters) * rows / sum(alone):.1f}"
    )


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        Path(sys.argv[3]).write_text(json.dumps(child(json.loads(Path(sys.argv[2]).read_text()))))
    else:
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 300)
