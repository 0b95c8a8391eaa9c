"""Rows without padding give the logits and gradients of rows run one by one; models whose attention is no plain causal
one are left alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from paft_ray.training import padding_free
from paft_ray.training.collate import IGNORE_INDEX, answer_loss, collate
from paft_ray.training.example_builder import Row
from paft_ray.training.padding_free import PADDING_FREE, supports_padding_free
from paft_ray.training.validation import forward

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
PLAIN = {
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 8},
    "mistral": {**GROUPED, "sliding_window": None},
    "gpt_neox": SIZES,
    "phi": SIZES,
    "olmo2": GROUPED,
    "gpt2": {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "opt": {
        "vocab_size": 60,
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
}
OTHER = {
    "mistral": {**GROUPED, "sliding_window": 8},  # a window
    "gemma2": {**GROUPED, "head_dim": 8},  # a window in every other layer, and a cap on attention's logits
    "gemma3_text": {**GROUPED, "head_dim": 8},
    "falcon": {
        "vocab_size": 60,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },  # attention of its own
}


def build(kind: str, sizes: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **sizes, attention_dropout=0.0), attn_implementation="sdpa"
    ).eval()


def rows() -> list[Row]:
    """Of several lengths, one shorter than the longest answer."""
    random = torch.Generator().manual_seed(1)
    made = []
    for position, (prompt, answer) in enumerate([(9, 2), (3, 1), (1, 1), (14, 4), (6, 3)]):
        ids = torch.randint(5, 60, (prompt + answer,), generator=random).tolist()
        ends = {"prompt_ids": ids[:prompt], "answer_ids": ids[prompt:]}
        made.append(
            Row(position=position, epoch=0, weight=1.0, template="t", example_id="e", truncated_characters=0, **ends)
        )
    return made


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("kind", PLAIN)
def test_padding_free_rows_answer_and_learn_as_rows_do_one_by_one(kind: str) -> None:
    model, batch = build(kind, PLAIN[kind]), collate(rows())
    assert supports_padding_free(model)
    alone = []
    for row in rows():
        one = collate([row])
        logits = forward(model, one)
        answer_loss(logits, one).backward()
        alone.append(logits[0, :-1].detach())
    expected = gradients(model)
    model.set_attn_implementation(PADDING_FREE)
    logits = forward(model, batch)
    answer_loss(logits, batch).backward()
    found = gradients(model)
    for i, wanted in enumerate(alone):
        labeled = batch.labels[i] != IGNORE_INDEX
        torch.testing.assert_close(logits[i, :-1][labeled], wanted, rtol=1e-4, atol=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(
    ("device", "kernel"),
    [
        pytest.param(
            "cuda",
            "varlen_attention",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the flash kernel runs on one only"),
        ),
        ("cpu", "_written_out"),
    ],
)
@pytest.mark.parametrize("kind", PLAIN)
def test_under_autocast_the_devices_own_attention_gives_the_same_within_bf16(
    kind: str, device: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = build(kind, PLAIN[kind]).to(device), collate(rows()).to(torch.device(device))
    labeled, calls, own = batch.labels != IGNORE_INDEX, [], getattr(padding_free, kernel)
    logits = forward(model, batch)
    answer_loss(logits, batch).backward()
    expected = [logits[:, :-1][labeled].detach(), *gradients(model).values()]
    monkeypatch.setattr(padding_free, kernel, lambda *args, **kwargs: calls.append(1) or own(*args, **kwargs))
    model.set_attn_implementation(PADDING_FREE)
    with torch.autocast(device, torch.bfloat16):
        logits = forward(model, batch)
    answer_loss(logits, batch).backward()
    assert len(calls) == 2, "one call in each of two layers"
    for found, wanted in zip([logits[:, :-1][labeled].float(), *gradients(model).values()], expected, strict=True):
        assert (found - wanted).norm() <= 0.03 * wanted.norm() + 1e-4


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)])
def test_attention_written_out_is_causal_attention(heads: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(2)
    query, key, value = (
        torch.randn(3, n, 7, 8, generator=random, requires_grad=True) for n in (heads[0], heads[1], heads[1])
    )
    found = padding_free._written_out(query, key, value, 0.3)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=0.3, enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(found, wanted)
    weights = torch.randn(found.shape, generator=random)
    for one, other in zip(
        *(torch.autograd.grad((o * weights).sum(), (query, key, value)) for o in (found, wanted)), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", OTHER)
def test_models_with_another_attention_are_padded(kind: str) -> None:
    assert not supports_padding_free(build(kind, OTHER[kind]))


def test_rows_that_the_attention_is_not_told_of_are_an_error() -> None:
    model = build("llama", GROUPED)
    model.set_attn_implementation(PADDING_FREE)
    with pytest.raises(TypeError, match="row_layout"):
        model(input_ids=torch.tensor([[5, 6, 7]]))
