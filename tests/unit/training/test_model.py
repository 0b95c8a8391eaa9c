"""What `build_model` makes of the settings that cost or save time alone."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from paft_ray.config import TrainConfig
from paft_ray.training import model as training_model
from paft_ray.training.collate import answer_loss, collate
from paft_ray.training.example_builder import Row
from paft_ray.training.model import build_model, repeated_layers
from paft_ray.training.validation import forward


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small model whose output head is its embedding."""
    path = str(tmp_path_factory.mktemp("model"))
    sizes = {
        "vocab_size": 60,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**sizes, attention_bias=True, tie_word_embeddings=True)).save_pretrained(path)
    return path


def built(folder: str, **settings: Any) -> Any:
    return build_model(folder, TrainConfig.model_validate(settings), seed=0, device="cpu")


@pytest.mark.parametrize("compiled", [False, True])
def test_each_layer_is_compiled_where_it_is_asked_for(compiled: bool, folder: str) -> None:
    model = built(folder, precision="fp32", compile=compiled)
    layers = repeated_layers(model)
    assert [type(layer).__name__ for layer in layers] == ["LlamaDecoderLayer"] * 3
    assert all((layer._compiled_call_impl is not None) == compiled for layer in layers)


def test_on_a_cpu_with_bf16_frozen_linear_layers_are_bf16_and_nothing_else(folder: str) -> None:
    formats = {name: weight.dtype for name, weight in built(folder, precision="bf16").named_parameters()}
    half = {name for name, dtype in formats.items() if dtype == torch.bfloat16}
    assert half == {name for name in formats if "base_layer.weight" in name or "lm_head" in name}
    assert set(formats.values()) == {torch.bfloat16, torch.float32}
    assert {
        w.dtype
        for settings in ({"precision": "fp32"}, {"precision": "bf16", "lora": None})
        for w in built(folder, **settings).parameters()
    } == {torch.float32}


@pytest.mark.parametrize("lora", [True, False])
def test_a_rank_that_receives_its_weights_has_the_same_model_without_reading_them(folder: str, lora: bool) -> None:
    """All but the values of base weights: names, shapes, dtypes, what is shared, what trains, buffers, adapters."""
    settings = {"precision": "bf16", **({} if lora else {"lora": None})}
    read = built(folder, **settings)
    received = build_model(folder, TrainConfig.model_validate(settings), seed=0, device="cpu", reads=False)

    def weights(model: Any) -> dict[str, tuple[Any, ...]]:
        return {
            name: (tuple(weight.shape), weight.dtype, weight.requires_grad, weight.device.type)
            for name, weight in model.named_parameters()
        }

    assert weights(received) == weights(read)
    assert received.state_dict().keys() == read.state_dict().keys()
    buffers, wanted = dict(received.named_buffers()), dict(read.named_buffers())
    assert buffers.keys() == wanted.keys()
    assert all(torch.equal(buffers[name], wanted[name]) for name in wanted)
    assert received.config.to_dict() == read.config.to_dict()
    for name, weight in read.named_parameters():
        if "lora_" in name:
            assert torch.equal(weight, received.get_parameter(name)), name
    received.load_state_dict(read.state_dict())
    found, expected = _step(received), _step(read)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_they_give_the_logits_and_gradients_of_autocasts_own_conversion_to_the_bit(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = built(folder, precision="bf16")
    monkeypatch.setattr(training_model, "_convert_frozen_linear", lambda *_: None)
    found, wanted = (_step(model) for model in (made, built(folder, precision="bf16")))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def _step(model: Any) -> dict[str, torch.Tensor]:
    """Logits, and gradients of what trains, for two rows under autocast."""
    rows = [
        Row(
            position=i,
            epoch=0,
            weight=1.0,
            prompt_ids=[5, 9, 7 + i][i:],
            answer_ids=[8],
            template="",
            truncated_characters=0,
            example_id="",
        )
        for i in (0, 1)
    ]
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        logits = forward(model, batch := collate(rows))
    answer_loss(logits, batch).backward()
    return {"logits": logits.detach()} | {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
