"""One training loop without Ray on given rows: `python -m benchmarks.loop ours|plain ROWS MODEL OUT`, with the environment's OMP_NUM_THREADS.

`ours`: our batches, model and loss under torch's AdamW, without DeepSpeed. `plain`: what one writes first, with PEFT: right padding to the longest row of the
micro-batch, logits and labels at every position with the prompt masked. ROWS: JSON lines, one list of rows per step. OUT gets seconds per step and GiB.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from paft_ray.config import TrainConfig
from paft_ray.training.batches import IGNORED, answer_loss, answer_tokens, collate, length, micro_batches
from paft_ray.training.loop import peak_memory_gib
from paft_ray.training.model import build_model
from paft_ray.training.rows import Row
from paft_ray.training.validation import forward


def ours(path: str, config: TrainConfig) -> tuple[Any, Callable[[list[Row]], None]]:
    """Our model, and what computes the gradients of a step."""
    model = build_model(path, config, seed=0, device="cpu")

    def gradients(rows: list[Row]) -> None:
        for chunk in micro_batches(rows, config.micro_batch):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
                logits = forward(model, batch := collate(chunk))
            (answer_loss(logits, batch) / answer_tokens(rows)).backward()

    return model, gradients


def plain(path: str, config: TrainConfig) -> tuple[Any, Callable[[list[Row]], None]]:
    """A plain model, and what computes the gradients of a step: the same loss."""
    assert config.lora is not None
    torch.manual_seed(0)
    lora = LoraConfig(r=config.lora.rank, lora_alpha=config.lora.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32), lora)
    model.train()

    def gradients(rows: list[Row]) -> None:
        for i in range(0, len(rows), config.micro_batch):
            chunk = rows[i : i + config.micro_batch]
            width = max(map(length, chunk))
            ids = torch.tensor([[*r["prompt_ids"], *r["answer_ids"], *[0] * (width - length(r))] for r in chunk])
            mask = torch.tensor([[1] * length(r) + [0] * (width - length(r)) for r in chunk])
            labels = torch.tensor([[IGNORED] * len(r["prompt_ids"]) + r["answer_ids"] + [IGNORED] * (width - length(r)) for r in chunk])
            with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
                loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
            (loss * (labels != IGNORED).sum() / answer_tokens(rows)).backward()

    return model, gradients


def main(kind: str, rows: Path, model_path: str, out: Path) -> None:
    config = TrainConfig.model_validate(json.loads(rows.with_name("train.json").read_text()))
    model, gradients = {"ours": ours, "plain": plain}[kind](model_path, config)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate)
    seconds = []
    for line in rows.read_text().splitlines():
        begin = time.perf_counter()
        gradients(json.loads(line))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begin)
    out.write_text(json.dumps({"seconds": seconds, "peak_memory_gib": peak_memory_gib(torch.device("cpu"))}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
