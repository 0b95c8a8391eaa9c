"""The model that trains: base weights, adapters, dtypes."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations import HfDeepSpeedConfig

from paft_ray.compat.transformers import repeated_layer_names
from paft_ray.config import TrainConfig
from paft_ray.training.fused_lora import add_adapter
from paft_ray.training.padding_free import PADDING_FREE, supports_padding_free

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_HALF = {torch.bfloat16: "bf16", torch.float16: "fp16"}
"""The section of DeepSpeed's configuration by which weights that are read in parts get this dtype."""


def build_model(
    model_path: str,
    config: TrainConfig,
    *,
    seed: int,
    device: str,
    shards: dict[str, Any] | None = None,
    reads: bool = True,
) -> Any:
    """A causal language model with fp32 trainable weights, frozen ones in the dtype that suits the device; the same on
    every rank for one seed.

    `shards`: the DeepSpeed configuration of ZeRO-3, whose ranks each keep their part of every base weight as it is
    read, so that none holds the complete model; collective. None: each rank has the complete model; where it does not
    read it, its base weights hold anything, until DeepSpeed sends it those of rank 0.

    On an accelerator frozen weights are bf16 or fp16, half the memory. On a CPU with bf16 only those of linear
    layers are, and below ZeRO-3, which autocast would convert in every pass: all weights in bf16 were measured 1.6
    times slower. Where the model allows it, rows run without padding (padding_free.py); where it does not, a CPU
    with bf16 takes eager attention (in fp32 sdpa is 10 % faster).
    """
    on_cpu = device == "cpu"
    autocast_on_cpu = on_cpu and config.precision != "fp32"
    dtype = torch.float32 if on_cpu or config.lora is None else DTYPES[config.precision]
    attention = "eager" if autocast_on_cpu else "sdpa"
    model = _read(model_path, dtype, attention, shards) if reads or shards else _unread(model_path, dtype, attention)
    model.config.use_cache = False
    if supports_padding_free(model):
        model.set_attn_implementation(PADDING_FREE)
    torch.manual_seed(seed)
    if config.lora is not None:
        model = add_adapter(model, config)
        if autocast_on_cpu and shards is None:
            _convert_frozen_linear(model, DTYPES[config.precision])
    if config.gradient_checkpointing:
        # ZeRO-3 gathers weights in hooks, which only the re-entrant form repeats; that form needs an input with a
        # gradient.
        reentrant = config.zero_stage == 3
        if reentrant:
            model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    if config.compile:
        for layer in repeated_layers(model):
            layer.compile(dynamic=True)
    model.train()
    return model


def _read(model_path: str, dtype: torch.dtype, attention: str, shards: dict[str, Any] | None) -> Any:
    """The base model; with `shards` in the parts of this rank: rank 0 reads one module's weights at a time."""
    of_shards = None
    if shards is not None:  # transformers loads so while this object lives
        of_shards = HfDeepSpeedConfig(shards | {_HALF[dtype]: {"enabled": True}} if dtype in _HALF else shards)
    model = AutoModelForCausalLM.from_pretrained(
        model_path, dtype=dtype, attn_implementation=attention, trust_remote_code=False
    )
    del of_shards
    return model


def _unread(model_path: str, dtype: torch.dtype, attention: str) -> Any:
    """The base model with room for its weights, of which no page is touched: a rank that receives them on an
    accelerator takes no memory of its host."""
    config = AutoConfig.from_pretrained(model_path, trust_remote_code=False)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=attention, trust_remote_code=False
        )
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            setattr(module, name, torch.nn.Parameter(torch.empty_like(weight, device="cpu")))
    model.tie_weights()
    return model


def _convert_frozen_linear(model: Any, dtype: torch.dtype) -> None:
    """Frozen weights of linear layers in `dtype`, as autocast would convert them in every pass; an embedding that
    shares one keeps its own."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear) and not layer.weight.requires_grad:
            layer.weight = torch.nn.Parameter(layer.weight.to(dtype), requires_grad=False)


def repeated_layers(model: Any) -> list[torch.nn.Module]:
    """The decoder's layers: alike, so that one compilation serves all of them. Of an architecture that does not name
    them, the complete model."""
    names = repeated_layer_names(model)
    return [module for module in model.modules() if type(module).__name__ in names] or [model]
