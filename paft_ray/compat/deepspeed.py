"""DeepSpeed: its table of operators, and the step count in its optimizer's state (0.19.8)."""

from __future__ import annotations

from typing import Any

import deepspeed
import torch

from paft_ray.compat.moved import moved

_SHM_OP = "deepspeed_shm_comm"


def skip_shared_memory_op() -> bool:
    """Keeps DeepSpeed from compiling a shared-memory all-reduce for CPUs at its first start (50 s): gloo gives the same
    sums. Whether that could be done; where not, it is compiled.

    Public replacement: none; no key of its configuration and no variable leaves the operator out.
    """
    table = getattr(deepspeed.ops, "__compatible_ops__", None)
    if not isinstance(table, dict) or _SHM_OP not in table:
        moved(f"DeepSpeed's table of operators, or {_SHM_OP} in it,", "DeepSpeed may compile an all-reduce (50 s)")
        return False
    table[_SHM_OP] = False
    return True


def set_step_count(engine: Any, step: int) -> None:
    """Sets the number of steps behind every moment of an engine's optimizer, which bias correction reads.

    ZeRO wraps torch's optimizer. Public replacement: an optimizer of our own, given to `deepspeed.initialize`;
    `safe_set_full_optimizer_state` sets moments alone.
    """
    inner = engine.optimizer.optimizer if engine.zero_optimization_stage() else engine.optimizer
    for slots in inner.state.values():
        if "step" in slots:
            slots["step"] = torch.full_like(torch.as_tensor(slots["step"], dtype=torch.float32), float(step))
