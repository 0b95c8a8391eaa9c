"""Rows without padding: the layers see one sequence of all tokens, and attention alone sees rows.

With the names of arguments that transformers hands to flash attention (`cu_seq_lens_q`, `max_length_q`), on any device that has PyTorch's own.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from paft_ray.training.batches import Batch

PACKED = "paft_packed"


def packed(batch: Batch) -> dict[str, Any]:
    """Arguments of a model whose attention is `attend`. Its logits are [1, batch * logits_to_keep, vocabulary]: those of the last positions of each row,
    of some other place where a row is shorter, for it carries no label."""
    real = batch.attention_mask.bool()
    places = real.flatten().cumsum(0).sub(1).clamp(min=0).view(real.shape)
    ends = torch.nn.functional.pad(real.sum(1).cumsum(0, dtype=torch.int32), (1, 0))
    longest = real.shape[1]
    return {
        "input_ids": batch.input_ids[real][None],
        "position_ids": batch.position_ids[real][None],
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
        "logits_to_keep": places[:, -batch.logits_to_keep :].flatten(),
    }


def is_packed(model: Any) -> bool:
    """Whether the attention of a model, or of the model of a DeepSpeed engine, is `attend`."""
    return bool(getattr(model, "module", model).config._attn_implementation == PACKED)


def packs(model: Any) -> bool:
    """Whether a model's attention can be exchanged for `attend`: plain causal attention in every layer, asked through transformers' interface."""
    config = model.config.get_text_config()
    layers = getattr(config, "layer_types", None)
    plain = all(kind == "full_attention" for kind in layers) if layers else not getattr(config, "sliding_window", None)
    return bool(model._supports_attention_backend and plain and getattr(config, "attn_logit_softcapping", None) is None)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within rows of a packed sequence; without `cu_seq_lens_q` that of the whole sequence. Shapes as in transformers: query
    [1, heads, tokens, head size], output [1, tokens, heads, head size]."""
    if cu_seq_lens_q is None or max_length_q is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
    tokens = torch.arange(query.shape[2], device=query.device)
    begins = cu_seq_lens_q[:-1]
    spread = (begins[:, None] + torch.arange(max_length_q, device=query.device)).clamp(max=len(tokens) - 1)
    rows = torch.searchsorted(cu_seq_lens_q, tokens.to(cu_seq_lens_q.dtype), right=True) - 1
    back = rows * max_length_q + tokens - begins[rows]
    by_row = (_by_row(states, spread) for states in (query, key, value))
    found, _ = sdpa_attention_forward(module, *by_row, None, **kwargs)  # padding is on the right: no token sees it
    return found.flatten(0, 1).index_select(0, back)[None], None


def _by_row(states: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """[1, heads, tokens, head size] -> [rows, heads, longest, head size]."""
    return states[0].index_select(1, spread.flatten()).unflatten(1, spread.shape).transpose(0, 1)


AttentionInterface.register(PACKED, attend)
