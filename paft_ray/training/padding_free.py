"""Padding-free rows: the layers see one sequence of all tokens, and attention alone sees rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface

from paft_ray.compat.torch import varlen_attention
from paft_ray.compat.transformers import attention_of, has_exchangeable_attention, sdpa_attention_forward
from paft_ray.training.collate import Batch

PADDING_FREE = "paft_padding_free"
"""Name of the attention `attend` in transformers."""
_LARGEST_HEAD, _HEAD_UNIT = 256, 8
"""Head sizes that the flash kernel takes: multiples of the second up to the first."""


@dataclass(frozen=True, kw_only=True)
class RowLayout:
    """Where the rows of a padding-free sequence are, for the attention of every layer."""

    spread: torch.Tensor
    """[rows, longest] indices into the sequence, each row from its first token on; behind a row's end any index."""
    back: torch.Tensor
    """[tokens] indices into the flattened `spread`."""
    ends: torch.Tensor
    """[rows + 1] int32: 0, and the index behind each row."""


def flattened(batch: Batch) -> dict[str, Any]:
    """Arguments of a model whose attention is `attend`: the rows of a batch as one sequence. Its logits are
    [1, batch * logits_to_keep, vocabulary]: those of the last positions of each row, of some other position where a row
    is shorter, for it carries no label."""
    real = batch.attention_mask.bool()
    width = real.shape[1]
    taken = real.flatten().nonzero().flatten()  # the one look at the mask: on a GPU each waits for the device
    positions = batch.position_ids.flatten()[taken]
    ends = torch.nn.functional.pad(real.sum(1).cumsum(0), (1, 0))
    places = real.flatten().cumsum(0).sub(1).clamp(min=0).view(real.shape)
    return {
        "input_ids": batch.input_ids.flatten()[taken][None],
        "position_ids": positions[None],
        "logits_to_keep": places[:, -batch.logits_to_keep :].flatten(),
        "row_layout": RowLayout(
            spread=(ends[:-1, None] + torch.arange(width, device=real.device)).clamp(max=len(taken) - 1),
            back=taken // width * width + positions,
            ends=ends.int(),
        ),
    }


def runs_padding_free(model: Any) -> bool:
    """Whether the attention of a model, or of the model of a DeepSpeed engine, is `attend`."""
    return attention_of(model) == PADDING_FREE


def supports_padding_free(model: Any) -> bool:
    """Whether a model's attention can be exchanged for `attend`: plain causal attention in every layer, asked through
    transformers' interface."""
    config = model.config.get_text_config()
    layers = getattr(config, "layer_types", None)
    plain = all(kind == "full_attention" for kind in layers) if layers else not getattr(config, "sliding_window", None)
    uncapped = getattr(config, "attn_logit_softcapping", None) is None
    return has_exchangeable_attention(model) and bool(plain) and uncapped


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    row_layout: RowLayout,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within the rows of a padding-free sequence; without `row_layout` an error, for rows would see
    each other. Shapes as in transformers: query [1, heads, tokens, head size], output [1, tokens, heads, head size].

    On a GPU in bf16 or fp16 the flash kernel takes the sequence as it is; elsewhere, and under attention's dropout,
    rows are stacked, padded to the longest. On a CPU in bf16 attention is written out, for torch's own has a slow
    backward pass there (EXPERIMENTS.md).
    """
    if varlen_attention is not None and _has_kernel(query, value) and not kwargs.get("dropout"):
        dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else query.dtype
        sequence = (states[0].transpose(0, 1).to(dtype) for states in (query, key, value))
        ends, longest = row_layout.ends, row_layout.spread.shape[1]
        found = varlen_attention(
            *sequence,
            ends,
            ends,
            longest,
            longest,
            scale=kwargs.get("scaling"),
            window_size=(-1, 0),
            enable_gqa=True,
        )
        return found[None], None
    # Padding is on the right: no token sees it.
    by_row = [_by_row(states, row_layout.spread) for states in (query, key, value)]
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu") and not kwargs.get("dropout"):
        found = _written_out(by_row[0], by_row[1], by_row[2], kwargs.get("scaling") or query.shape[-1] ** -0.5)
    else:
        found, _ = sdpa_attention_forward(module, *by_row, None, **kwargs)
    return found.flatten(0, 1).index_select(0, row_layout.back)[None], None


def _has_kernel(query: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the flash kernel takes such states: half precision, on a GPU from Ampere on, heads of its sizes."""
    half = torch.is_autocast_enabled("cuda") or query.dtype in (torch.bfloat16, torch.float16)
    size = query.shape[-1]
    fits = size == value.shape[-1] and size <= _LARGEST_HEAD and size % _HEAD_UNIT == 0
    return query.is_cuda and half and fits and torch.cuda.get_device_capability(query.device) >= (8, 0)


def _by_row(states: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """[1, heads, tokens, head size] -> [rows, heads, longest, head size]."""
    return states[0].index_select(1, spread.flatten()).unflatten(1, spread.shape).transpose(0, 1)


def _written_out(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> torch.Tensor:
    """Causal attention of states [rows, heads, longest, head size], query heads in groups over those of key and value
    -> [rows, longest, heads, head size]."""
    longest, groups = query.shape[2], key.shape[1]
    hidden = torch.ones(longest, longest, dtype=torch.bool, device=query.device).triu(1)
    together = (query * scaling).unflatten(1, (groups, -1)).flatten(2, 3)
    scores = torch.matmul(together, key.transpose(2, 3)).unflatten(2, (-1, longest)).masked_fill(hidden, -torch.inf)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return torch.matmul(weights.flatten(2, 3), value).unflatten(2, (-1, longest)).flatten(1, 2).transpose(1, 2)


AttentionInterface.register(PADDING_FREE, attend)
