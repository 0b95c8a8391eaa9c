"""A tiny model with an adapter, and what it answers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from paft_ray.config import TrainConfig
from paft_ray.training.fused_lora import add_adapter

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
IDS = torch.randint(5, 60, (3, 11), generator=torch.Generator().manual_seed(1))


def adapted(precision: str, **settings: Any) -> Any:
    """The model with an adapter that changes what it answers; the same at each call."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES))
    model = add_adapter(
        model, TrainConfig.model_validate({"precision": precision, "lora": {"rank": 4, "alpha": 10}, **settings})
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return model


def answers(model: Any, precision: str) -> list[torch.Tensor]:
    """Logits and the gradients of all that trains."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = model(input_ids=IDS).logits
    logits.float().square().mean().backward()
    return [logits.detach().float(), *(p.grad for p in model.parameters() if p.requires_grad)]
