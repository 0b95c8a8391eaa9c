"""transformers: what a model's class says about its attention and its layers (5.19.0)."""

from __future__ import annotations

from typing import Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

__all__ = ["attention_of", "has_exchangeable_attention", "repeated_layer_names", "sdpa_attention_forward"]
"""`sdpa_attention_forward`: the attention that a model runs by default, called by ours where no kernel fits. Public
replacement: `torch.nn.functional.scaled_dot_product_attention`, without the handling of groups and of scaling."""


def attention_of(model: Any) -> str | None:
    """The name of the attention that a model, or the model of a DeepSpeed engine, runs; None where it does not say.

    Public replacement: none; transformers has `set_attn_implementation` and no getter.
    """
    found = getattr(getattr(model, "module", model).config, "_attn_implementation", None)
    return found if isinstance(found, str) else None


def has_exchangeable_attention(model: Any) -> bool:
    """Whether a model's attention is called through transformers' interface and has no terms of its own (sinks).

    Where the model does not say, it is taken to have: rows are padded then. Public replacement:
    `is_backend_compatible` for the first, none for the second.
    """
    return bool(model.is_backend_compatible() and getattr(model, "_supports_sdpa", False))


def repeated_layer_names(model: torch.nn.Module) -> frozenset[str]:
    """Class names of the decoder's layers, which are alike; empty for an architecture that does not name them: it is
    compiled as a whole then.

    Public replacement: none; `accelerate` reads the same attribute.
    """
    return frozenset(getattr(model, "_no_split_modules", None) or ())
