"""One training loop without Ray on given rows: `python -m benchmarks.loop ours|dynamic|deepspeed|plain ROWS MODEL OUT`.

`ours`: our batches, model and loss under torch's AdamW, without DeepSpeed. `dynamic`: the same, each step twice, with
rows that are there and with rows made within the step, interleaved. `deepspeed`: the loop of Ray's workers. `plain`:
what one writes first, with PEFT: right padding to the longest row of the micro-batch, logits and labels at every
position with the prompt masked. All run on the GPU where there is one. ROWS: JSON lines, one list of rows per step. OUT
gets GiB and the seconds of each step, of those with rows made within them as `made`."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from benchmarks.stages import row_maker
from paft_ray.config import TrainConfig
from paft_ray.models.local import find_model
from paft_ray.training.collate import IGNORE_INDEX, answer_loss, answer_tokens, collate, length, micro_batches
from paft_ray.training.example_builder import Row, rows_of
from paft_ray.training.job import TrainingJob, Worker
from paft_ray.training.model import build_model
from paft_ray.training.validation import forward

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def ours(path: str, config: TrainConfig) -> tuple[Any, Callable[[list[Row]], None]]:
    """Our model, and what computes the gradients of a step."""
    model = build_model(path, config, seed=0, device=DEVICE.type).to(DEVICE)

    def gradients(rows: list[Row]) -> None:
        for chunk in micro_batches(rows, config.micro_batch):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=config.precision == "bf16"):
                logits = forward(model, batch := collate(chunk).to(DEVICE))
            (answer_loss(logits, batch) / answer_tokens(rows)).backward()

    return model, gradients


def plain(path: str, config: TrainConfig) -> tuple[Any, Callable[[list[Row]], None]]:
    """A plain model, and what computes the gradients of a step: the same loss."""
    assert config.lora is not None
    torch.manual_seed(0)
    lora = LoraConfig(
        r=config.lora.rank, lora_alpha=config.lora.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    dtype = torch.float32 if DEVICE.type == "cpu" else torch.bfloat16
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(path, dtype=dtype), lora).to(DEVICE)
    model.train()

    def gradients(rows: list[Row]) -> None:
        for i in range(0, len(rows), config.micro_batch):
            chunk = rows[i : i + config.micro_batch]
            width = max(map(length, chunk))
            ids = torch.tensor(
                [[*r["prompt_ids"], *r["answer_ids"], *[0] * (width - length(r))] for r in chunk], device=DEVICE
            )
            mask = torch.tensor([[1] * length(r) + [0] * (width - length(r)) for r in chunk], device=DEVICE)
            labels = torch.tensor(
                [
                    [IGNORE_INDEX] * len(r["prompt_ids"]) + r["answer_ids"] + [IGNORE_INDEX] * (width - length(r))
                    for r in chunk
                ],
                device=DEVICE,
            )
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=config.precision == "bf16"):
                loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
            (loss * (labels != IGNORE_INDEX).sum() / answer_tokens(rows)).backward()

    return model, gradients


def making(rows: Path, global_batch: int) -> Callable[[int], list[Row]]:
    """What draws, renders and encodes the rows of a step."""
    maker = row_maker(json.loads(rows.with_name("settings.json").read_text()))
    maker.rows(np.arange(1))  # reads the tokenizer
    return lambda step: rows_of(maker.rows(np.arange(step * global_batch, (step + 1) * global_batch)))


def own_optimizer(kind: str, path: str, config: TrainConfig) -> Callable[[int, list[Row]], None]:
    """An optimizer step under torch's AdamW."""
    model, gradients = (plain if kind == "plain" else ours)(path, config)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate)

    def step(number: int, rows: list[Row]) -> None:
        gradients(rows)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def deepspeed_step(path: str, config: TrainConfig, num_steps: int) -> Callable[[int, list[Row]], None]:
    """The loop's own optimizer step, in a group of one."""
    os.environ |= {
        "DS_ACCELERATOR": DEVICE.type,
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29511",
    }
    from paft_ray.training.engine import start_engine
    from paft_ray.training.optimizer_step import optimizer_step

    torch.distributed.init_process_group("gloo" if DEVICE.type == "cpu" else "nccl")
    job = TrainingJob(
        config=config,
        model=find_model(path, None),
        seed=0,
        num_steps=num_steps,
        out="unused",
        fingerprint="f",
        label="job",
    )
    worker = Worker(rank=0, world_size=1)
    engine = start_engine(job, worker, 0)

    def step(number: int, rows: list[Row]) -> None:
        optimizer_step(engine, job, number, rows, worker)

    return step


def main(kind: str, rows: Path, model_path: str, out: Path) -> None:
    config = TrainConfig.model_validate(json.loads(rows.with_name("train.json").read_text()))
    read = [json.loads(line) for line in rows.read_text().splitlines()]
    ways: dict[str, Callable[[int], list[Row]]] = {"seconds": read.__getitem__}
    if kind == "dynamic":
        ways["made"] = making(rows, config.global_batch)
    step = (
        deepspeed_step(model_path, config, len(read))
        if kind == "deepspeed"
        else own_optimizer(kind, model_path, config)
    )
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(len(read)):
        for way in sorted(ways, reverse=bool(number % 2)):
            begin = time.perf_counter()
            step(number, ways[way](number))
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            found[way].append(time.perf_counter() - begin)
    peak = (
        torch.cuda.max_memory_allocated()
        if DEVICE.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
    )
    out.write_text(json.dumps({**found, "peak_memory_gib": peak / 2**30}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
