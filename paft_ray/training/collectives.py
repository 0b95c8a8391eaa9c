"""What the ranks of a worker group exchange. Every function here is collective: all ranks call it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from paft_ray.training.job import Worker


def any_rank(holds: bool, device: torch.device) -> bool:
    """Whether a condition holds on any rank."""
    found = torch.tensor(float(holds), device=device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return bool(found)


def gather_at_rank_0(worker: Worker, value: Any) -> list[Any] | None:
    """The values of all ranks, in order of rank, at rank 0; None elsewhere."""
    values = [None] * worker.world_size if worker.rank == 0 else None
    dist.gather_object(value, values)
    return values
