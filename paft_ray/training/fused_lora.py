"""The adapter that trains: PEFT's LoRA, with fewer passes over activations than PEFT's own forward makes."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear, LoraLayer, LoraVariant

from paft_ray.config import TrainConfig


class FusedLoraForward(LoraVariant):
    """x W + s (x A) B, where the last product adds to x W and s scales x A, which is as wide as the rank.

    PEFT's own forward writes (x A) B out, scales it and adds it: three passes over an activation. Only for training:
    the adapter is merged as it was saved, which is plain LoRA.
    """

    @staticmethod
    def merge_safe(module: LoraLayer, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        """An error: a model in training is not merged."""
        raise NotImplementedError("save the adapter, load it with PEFT and merge that")

    merge_unsafe = merge_safe  # type: ignore[assignment]

    @staticmethod
    def forward(
        module: LoraLayer, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """`x` [..., in], `result` = x W [..., out] -> [..., out]."""
        down = module.lora_A[active_adapter](module.lora_dropout[active_adapter](x)) * module.scaling[active_adapter]
        up = module.lora_B[active_adapter].weight.T
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
    for layer in model.modules():
        if isinstance(layer, Linear):
            # Autocast brings x and adapter to one format; PEFT would lift x to the adapter's fp32 first.
            layer.cast_input_dtype_enabled = config.precision == "fp32"
            if config.zero_stage < 3:  # there a weight is gathered when its own module is called
                layer.lora_variant = dict.fromkeys(layer.lora_A, FusedLoraForward())
    return model
