"""The DeepSpeed configuration of a train section: a pure function."""

from __future__ import annotations

import math
from typing import Any

from paft_ray.config import TrainConfig

BUCKET_ELEMENTS = 50_000_000
_AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}


def accumulation(config: TrainConfig, world_size: int) -> int:
    """Forward passes of one worker per optimizer step; where its rows do not fill the last one, empty rows do."""
    return math.ceil(config.global_batch / (world_size * config.micro_batch))


def deepspeed_config(config: TrainConfig, world_size: int) -> dict[str, Any]:
    """The dict for `deepspeed.initialize`.

    Weights that train are fp32 at every precision; lower precision comes from autocast in the forward pass, and
    gradients travel in fp32. `torch_adam` avoids compiling an optimizer on the machine.
    """
    passes = accumulation(config, world_size)
    values: dict[str, Any] = {
        "train_batch_size": passes * world_size * config.micro_batch,
        "train_micro_batch_size_per_gpu": config.micro_batch,
        "gradient_accumulation_steps": passes,
        "gradient_clipping": config.max_grad_norm or 0.0,
        "optimizer": {
            "type": "AdamW",
            "params": {"lr": config.learning_rate, "weight_decay": config.weight_decay, "torch_adam": True},
        },
        "zero_optimization": zero_optimization(config),
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }
    if config.precision != "fp32":
        values["torch_autocast"] = {
            "enabled": True,
            "dtype": _AUTOCAST[config.precision],
            "lower_precision_safe_modules": [],
        }
    return values


def zero_optimization(config: TrainConfig) -> dict[str, Any]:
    """The section of that name."""
    # With stage 3 gathering overlaps with computing, which is DeepSpeed's own default there.
    values: dict[str, Any] = {
        "stage": config.zero_stage,
        "reduce_bucket_size": BUCKET_ELEMENTS,
        "overlap_comm": config.zero_stage == 3,
    }
    if config.zero_stage in (1, 2):
        values["allgather_bucket_size"] = BUCKET_ELEMENTS
    if config.offload != "none":
        values["offload_optimizer"] = {"device": "cpu"}
    if config.offload == "optimizer_and_weights":
        values["offload_param"] = {"device": "cpu"}
    return values | config.deepspeed
