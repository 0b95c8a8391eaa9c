"""Training speed: our loop (DeepSpeed, buckets, logits at the answer only) against a plain PyTorch + PEFT loop on the same batches.

`python benchmarks/training.py [STEPS]`. Steps of the two alternate in one process, so that other load on the machine meets both; medians are
compared. The peer is what one writes first: right padding to the longest row of the batch, logits and labels at every position with the prompt
masked, the same micro-batches in order of position. Precision is the one that the machine computes natively, for both.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as training workers have it
os.environ.update(DS_ACCELERATOR="cpu", RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="29631")

import numpy as np
import torch
import torch.distributed as dist
from data_path import TASK, TEMPLATES, table_of
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from paft_ray.config import ModelConfig, TrainConfig
from paft_ray.models import resolve_model
from paft_ray.prompts.draw import PerExample
from paft_ray.training import loop
from paft_ray.training.batches import IGNORED, length
from paft_ray.training.data import make_encoder
from paft_ray.training.rows import Row, RowMaker, rows_of


class Peer:
    """A plain loop; `dtype` of weights, with or without autocast."""

    def __init__(self, path: str, config: TrainConfig, dtype: torch.dtype, *, autocast: bool) -> None:
        assert config.lora is not None
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
        lora = LoraConfig(r=config.lora.rank, lora_alpha=config.lora.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
        self.model: Any = get_peft_model(model, lora)
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=config.learning_rate)
        self.micro_batch = config.micro_batch
        self.autocast = autocast

    def step(self, rows: list[Row]) -> float:
        """Seconds of one optimizer step."""
        start = time.perf_counter()
        for i in range(0, len(rows), self.micro_batch):
            chunk = rows[i : i + self.micro_batch]
            width = max(map(length, chunk))
            ids = torch.tensor([[*r["prompt_ids"], *r["answer_ids"], *[0] * (width - length(r))] for r in chunk])
            mask = torch.tensor([[1] * length(r) + [0] * (width - length(r)) for r in chunk])
            labels = torch.tensor([[IGNORED] * len(r["prompt_ids"]) + r["answer_ids"] + [IGNORED] * (width - length(r)) for r in chunk])
            with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
                loss = self.model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
            (loss * self.micro_batch / len(rows)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - start


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    config = TrainConfig(num_epochs=None, num_steps=steps, zero_stage=2)
    path = resolve_model("demo", None)
    dist.init_process_group("gloo", rank=0, world_size=1)
    table = table_of(400)
    maker = RowMaker(
        table=table, templates=TEMPLATES, encoder=make_encoder(TASK, ModelConfig(), path), draw=PerExample(seed=0), seed=0, num_positions=10**9
    )  # fmt: skip
    batches = [rows_of(maker.rows(np.arange(s * 16, s * 16 + 16, dtype=np.int64))) for s in range(steps)]
    if config.precision == "fp32":
        peers = {"plain PyTorch + PEFT, fp32": Peer(path, config, torch.float32, autocast=False)}
    else:
        peers = {
            "plain PyTorch + PEFT, bf16 weights": Peer(path, config, torch.bfloat16, autocast=False),
            "plain PyTorch + PEFT, fp32 weights, bf16 autocast": Peer(path, config, torch.float32, autocast=True),
        }
    seconds: dict[str, list[float]] = {name: [] for name in (f"paft_ray loop, ZeRO-2, {config.precision}", *peers)}
    ours = next(iter(seconds))
    with tempfile.TemporaryDirectory() as out:
        job = loop.Job(config=config, model_path=path, seed=0, num_steps=steps, out=out, fingerprint="bench", name="bench")
        worker = loop.Worker(rank=0, world_size=1)
        engine = loop.start_engine(job, worker, 0)
        for step, rows in enumerate(batches):
            seconds[ours].append(loop.optimizer_step(engine, job, step, rows, worker)["time_s"])
            for name, peer in peers.items():
                seconds[name].append(peer.step(rows))
    tokens = [sum(map(length, rows)) for rows in batches]
    speeds = {name: statistics.median(n / s for n, s in zip(tokens[1:], times[1:], strict=True)) for name, times in seconds.items()}
    print(f"\n{steps} steps of 16 rows, {sum(tokens) / len(tokens) / 16:.0f} tokens a row, {torch.get_num_threads()} threads; medians, first step left out\n")
    print("| loop | tokens/s | ours / this |\n|---|---|---|")
    for name, speed in speeds.items():
        print(f"| {name} | {speed:.0f} | {speeds[ours] / speed:.2f} |")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
