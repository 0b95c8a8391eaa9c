"""The DeepSpeed configuration is a pure function of the train section."""

import pytest

from paft_ray.config import TrainConfig
from paft_ray.training.deepspeed_config import accumulation, deepspeed_config


@pytest.mark.parametrize(("world_size", "micro_batch", "expected"), [(1, 8, 2), (2, 8, 1), (1, 16, 1), (4, 2, 2)])
def test_batch_sizes_multiply_to_the_global_batch(world_size: int, micro_batch: int, expected: int) -> None:
    config = TrainConfig(global_batch=16, micro_batch=micro_batch, num_workers=world_size)
    assert accumulation(config, world_size) == expected
    values = deepspeed_config(config, world_size)
    assert (
        values["train_micro_batch_size_per_gpu"] * values["gradient_accumulation_steps"] * world_size
        == values["train_batch_size"]
        == 16
    )


@pytest.mark.parametrize("world_size", range(56, 65))
def test_fewer_workers_fill_their_passes(world_size: int) -> None:
    """Of a group that may shrink by a node of eight; before, its batch had to divide by every number of workers."""
    config = TrainConfig(global_batch=128, micro_batch=2, num_workers=64, min_workers=56)
    passes = accumulation(config, world_size)
    assert passes * config.micro_batch * world_size >= config.global_batch > (passes - 1) * 2 * world_size
    values = deepspeed_config(config, world_size)
    assert values["train_batch_size"] == passes * 2 * world_size


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_stage_is_what_was_asked(stage: int) -> None:
    assert deepspeed_config(TrainConfig(zero_stage=stage), 1)["zero_optimization"]["stage"] == stage


def test_offload_names_the_parts_that_move() -> None:
    optimizer = deepspeed_config(TrainConfig(offload="optimizer"), 1)["zero_optimization"]
    both = deepspeed_config(TrainConfig(zero_stage=3, offload="optimizer_and_weights"), 1)["zero_optimization"]
    assert "offload_optimizer" in optimizer
    assert "offload_param" not in optimizer
    assert {"offload_optimizer", "offload_param"} <= both.keys()


def test_lower_precision_is_autocast_and_never_the_weights() -> None:
    assert "torch_autocast" not in deepspeed_config(TrainConfig(precision="fp32"), 1)
    values = deepspeed_config(TrainConfig(precision="bf16"), 1)
    assert values["torch_autocast"]["dtype"] == "bfloat16"
    assert not {"bf16", "fp16"} & values.keys()


def test_clipping_is_off_where_no_norm_is_given() -> None:
    assert deepspeed_config(TrainConfig(max_grad_norm=None), 1)["gradient_clipping"] == 0.0
