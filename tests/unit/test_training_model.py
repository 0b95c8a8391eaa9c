"""What `build_model` makes of the settings that cost or save time alone."""

from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from paft_ray.config import TrainConfig
from paft_ray.training.model import build_model, repeated_layers


@pytest.mark.parametrize("compiled", [False, True])
def test_each_layer_is_compiled_where_it_is_asked_for(compiled: bool, tmp_path: Path) -> None:
    sizes = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(tmp_path)
    model = build_model(str(tmp_path), TrainConfig(precision="fp32", compile=compiled), seed=0, device="cpu")
    layers = repeated_layers(model)
    assert [type(layer).__name__ for layer in layers] == ["LlamaDecoderLayer"] * 3
    assert all((layer._compiled_call_impl is not None) == compiled for layer in layers)
