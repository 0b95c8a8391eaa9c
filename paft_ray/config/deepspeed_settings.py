"""Which settings of DeepSpeed's `zero_optimization` section `train.deepspeed` may hold: those that trade memory for
speed.

The rest is ours: batch sizes, accumulation, optimizer, precision, clipping and the stage are settings of `train`, so
that a fingerprint knows them; what writes files or loads code by its name is not passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from paft_ray.config.passed_on import check_passed_on
from paft_ray.credentials import check_options

_Elements = Annotated[int, Field(ge=1, lt=2**40)]
_Switch = frozenset({1, 2, 3})

SETTINGS: dict[str, tuple[Any, frozenset[int]]] = {
    "overlap_comm": (bool, _Switch),
    "contiguous_gradients": (bool, _Switch),
    "reduce_scatter": (bool, _Switch),
    "reduce_bucket_size": (_Elements, _Switch),
    "allgather_bucket_size": (_Elements, frozenset({1, 2})),
    "sub_group_size": (_Elements, frozenset({3})),
    "stage3_prefetch_bucket_size": (_Elements, frozenset({3})),
    "stage3_param_persistence_threshold": (_Elements, frozenset({3})),
    "stage3_model_persistence_threshold": (_Elements, frozenset({3})),
    "stage3_max_live_parameters": (_Elements, frozenset({3})),
    "stage3_max_reuse_distance": (_Elements, frozenset({3})),
}
"""Name -> (type of its value, ZeRO stages that read it). Sizes are numbers of elements."""

OWNED = {
    "stage": "train.zero_stage",
    "offload_optimizer": "train.offload",
    "offload_param": "train.offload",
    "train_batch_size": "train.global_batch",
    "train_micro_batch_size_per_gpu": "train.micro_batch",
    "gradient_accumulation_steps": "train.global_batch, micro_batch and num_workers",
    "gradient_clipping": "train.max_grad_norm",
    "optimizer": "train.learning_rate and weight_decay",
    "scheduler": "train.schedule and warmup_fraction",
    "bf16": "train.precision",
    "fp16": "train.precision",
    "torch_autocast": "train.precision",
}
"""DeepSpeed's name -> the setting of ours that decides it."""


def check_deepspeed_settings(given: Mapping[str, Any], zero_stage: int) -> None:
    """Raises `ValueError` for a setting that is not tuned here, that another one decides, that the stage does not read,
    or whose value is not of its type."""
    check_options(given, "train.deepspeed", free=True)
    check_passed_on(
        given,
        allowed={name: kind for name, (kind, _) in SETTINGS.items()},
        owned=OWNED,
        nearest="overlap_comm, reduce_bucket_size",
        reason="not a setting of zero_optimization that trades memory for speed",
    )
    for name in given:
        stages = SETTINGS[name][1]
        if zero_stage not in stages:
            read = " or ".join(map(str, sorted(stages)))
            raise ValueError(f"{name}: needs train.zero_stage of {read}, given {zero_stage}; remove it")
