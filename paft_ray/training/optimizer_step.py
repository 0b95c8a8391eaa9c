"""One optimizer step of the engine.

Loss of a step = sum of token cross-entropies over answer and EOS tokens / global count of those tokens. DeepSpeed
divides by accumulation and averages over workers, so both are multiplied back.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from paft_ray.training.collate import answer_loss, answer_tokens, collate, length, micro_batches
from paft_ray.training.deepspeed_config import accumulation
from paft_ray.training.engine import set_learning_rate
from paft_ray.training.example_builder import Row, empty_row
from paft_ray.training.job import TrainingJob, Worker
from paft_ray.training.lr_schedule import learning_rate
from paft_ray.training.validation import forward


def optimizer_step(engine: Any, job: TrainingJob, step: int, rows: list[Row], worker: Worker) -> dict[str, Any]:
    """Metrics of one optimizer step, which it runs; equal on every rank (`grad_norm` before clipping; None for ZeRO-0,
    which does not report it)."""
    begin = time.perf_counter()
    rate = learning_rate(step, job.num_steps, job.config)
    set_learning_rate(engine, rate)
    torch.manual_seed(_dropout_seed(job.seed, step, worker.rank))
    truncated = sum(row["truncated_characters"] > 0 for row in rows)
    local = torch.tensor(
        [answer_tokens(rows), sum(map(length, rows)), truncated], dtype=torch.float64, device=engine.device
    )
    dist.all_reduce(local)
    num_answer, num_tokens, num_truncated = local.tolist()
    passes = accumulation(job.config, worker.world_size)
    scale = passes * worker.world_size / num_answer
    total = torch.zeros((), dtype=torch.float64, device=engine.device)
    filled = [*rows, *[empty_row()] * (passes * job.config.micro_batch - len(rows))]
    for chunk in micro_batches(filled, job.config.micro_batch):
        loss = answer_loss(forward(engine, batch := collate(chunk).to(engine.device)), batch)
        engine.backward(loss * scale)
        engine.step()
        total += loss.detach()
    dist.all_reduce(total)
    norm = engine.get_global_grad_norm()
    seconds = time.perf_counter() - begin
    return {
        "step": step + 1,
        "loss": total.item() / num_answer,
        "learning_rate": rate,
        "grad_norm": None if norm is None else float(norm),
        "tokens": int(num_tokens),
        "truncated_rows": int(num_truncated),
        "tokens_per_s": num_tokens / seconds,
        "time_s": seconds,
    }


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed % 2**32, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
