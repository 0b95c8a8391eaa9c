"""The adapter that trains: PEFT's LoRA, with fewer passes over activations than PEFT's own forward makes."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from paft_ray.compat.peft import adapted_linears, keep_input_dtype, replace_forward
from paft_ray.config import TrainConfig


def fused_lora_forward(layer: Any, adapter: str, x: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    """x W + s (x A) B [..., out] from `x` [..., in] and `result` = x W [..., out]: the last product adds to x W, and s
    scales x A, which is as wide as the rank.

    PEFT's own forward writes (x A) B out, scales it and adds it: three passes over an activation. Only for training:
    the adapter is merged as it was saved, which is plain LoRA.
    """
    down = layer.lora_A[adapter](layer.lora_dropout[adapter](x)) * layer.scaling[adapter]
    up = layer.lora_B[adapter].weight.T
    return torch.addmm(result.flatten(0, -2), down.flatten(0, -2), up).view(result.shape)


def add_adapter(model: Any, config: TrainConfig) -> Any:
    """`model` with an adapter of `config.lora` on its layers, random by torch's generator. Below fp32 it runs under
    autocast only."""
    assert config.lora is not None
    targets = config.lora.target_modules
    model = get_peft_model(
        model,
        LoraConfig(
            r=config.lora.rank,
            lora_alpha=config.lora.alpha,
            lora_dropout=config.lora.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            task_type="CAUSAL_LM",
        ),
    )
    layers = adapted_linears(model)
    if config.precision != "fp32":  # autocast brings input and adapter to one dtype; PEFT would lift it to fp32 first
        for layer in layers:
            keep_input_dtype(layer)
    if config.zero_stage < 3:  # there a weight is gathered when its own module is called
        replace_forward(layers, fused_lora_forward)
    return model
