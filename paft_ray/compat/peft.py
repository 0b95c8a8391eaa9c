"""PEFT: an adapter layer's forward pass, exchanged for another of the same result (0.21.0)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora import layer as lora_layer

from paft_ray.compat.moved import moved

Forward = Callable[[Any, str, torch.Tensor, torch.Tensor], torch.Tensor]
"""(layer, adapter, x, result of the frozen layer) -> result with the adapter."""


def adapted_linears(model: torch.nn.Module) -> list[Any]:
    """The linear layers of a model that have a LoRA adapter. Public: `peft.tuners.lora.Linear`."""
    return [module for module in model.modules() if isinstance(module, lora_layer.Linear)]


def keep_input_dtype(layer: Any) -> None:
    """Keeps a layer from converting its input to the adapter's dtype, which autocast does better.

    Public replacement: `peft.helpers.disable_input_dtype_casting`, a block that would have to last for the whole
    training. Where the attribute is gone PEFT converts: only time is lost.
    """
    if hasattr(layer, "cast_input_dtype_enabled"):
        layer.cast_input_dtype_enabled = False
    else:
        moved("PEFT's cast_input_dtype_enabled", "inputs are converted to fp32 before every adapter")


def replace_forward(layers: list[Any], forward: Forward) -> bool:
    """Makes adapter layers run `forward` where PEFT would run its own; whether that could be done.

    PEFT calls its variants "private"; they are made for DoRA and the like. Where they are gone PEFT's own forward runs:
    only time is lost. Public replacement: `LoraConfig._register_custom_module`, private as well. A layer with such a
    forward cannot be merged: save the adapter, load it with PEFT and merge that.
    """
    base = getattr(lora_layer, "LoraVariant", None)
    if base is None or not all(isinstance(getattr(layer, "lora_variant", None), dict) for layer in layers):
        moved("PEFT's LoraVariant", "adapters run PEFT's own forward, which is slower")
        return False

    def refuse(module: Any, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("save the adapter, load it with PEFT and merge that")

    def run(module: Any, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return forward(module, active_adapter, x, result)

    methods = {"merge_safe": staticmethod(refuse), "merge_unsafe": staticmethod(refuse), "forward": staticmethod(run)}
    variant = type("ReplacedForward", (base,), methods)
    for layer in layers:
        layer.lora_variant = dict.fromkeys(layer.lora_A, variant())
    return True
