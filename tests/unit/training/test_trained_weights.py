"""What is read of a trained model is weights: complete, finite, not zero, of the right shapes."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from paft_ray.errors import UserError
from paft_ray.training.trained_weights import check_weights_folder
from tests.support.tiny_adapter import Tensors, adapter_tensors, write_adapter, write_base

Q = "base_model.model.model.layers.1.self_attn.q_proj.lora_"


def changed(name: str, value: object) -> Tensors:
    """The adapter with one tensor filled with the value."""
    return {key: np.full_like(tensor, value) if key == name else tensor for key, tensor in adapter_tensors().items()}


def without(*parts: str) -> Tensors:
    """The adapter without the tensors that have one of these in their names."""
    return {name: tensor for name, tensor in adapter_tensors().items() if not any(part in name for part in parts)}


def check(tmp_path: Path, tensors: Tensors, **config: object) -> None:
    folder, base = write_adapter(tmp_path / "adapter", tensors, **config), write_base(tmp_path / "base")
    check_weights_folder(folder, "run r: train/paft-s0/adapter", base=str(base), is_adapter=True)


def test_a_complete_adapter_passes(tmp_path: Path) -> None:
    check(tmp_path, adapter_tensors())


@pytest.mark.parametrize(
    ("tensors", "config", "reason"),
    [
        ({name: np.full_like(tensor, np.nan) for name, tensor in adapter_tensors().items()}, {}, "is not finite"),
        (changed(f"{Q}A.weight", np.inf), {}, f"{Q}A.weight is not finite"),
        ({name: np.zeros_like(tensor) for name, tensor in adapter_tensors().items()}, {}, "is zero"),
        (changed(f"{Q}B.weight", -0.0), {}, f"{Q}B.weight is zero"),
        (without(f"{Q}B"), {}, "lora_B of model.layers.1.self_attn.q_proj is missing"),
        (without(f"{Q}A"), {}, "lora_A of model.layers.1.self_attn.q_proj is missing"),
        (without(Q), {}, "model.layers.1.self_attn.q_proj is missing"),
        (without("q_proj"), {}, "every module q_proj is missing"),
        (without("x"), {"target_modules": ["q_proj"]}, "up_proj is none of the target_modules"),
        (without("x"), {"r": 4}, "another rank than r=4"),
        ({**without(Q), f"{Q}A.weight": np.ones((2, 9)), f"{Q}B.weight": np.ones((8, 2))}, {}, "another shape"),
        ({**without("x"), "model.norm.weight": np.ones(8)}, {}, "model.norm.weight is no tensor of a LoRA adapter"),
        ({}, {}, "adapter_model.safetensors holds no tensors"),
        (without("x"), {"lora_alpha": "x"}, "lora_alpha"),
    ],
)
def test_what_is_no_adapter_of_the_base_is_refused_by_name(
    tmp_path: Path, tensors: Tensors, config: dict[str, object], reason: str
) -> None:
    with pytest.raises(UserError) as refused:
        check(tmp_path, tensors, **config)
    assert str(refused.value).startswith("run r: train/paft-s0/adapter: ")
    assert reason in str(refused.value)


@pytest.mark.parametrize("untied", [False, True])
def test_an_adapter_of_a_model_that_stores_its_weights_the_other_way_around_passes(
    tmp_path: Path, untied: bool
) -> None:
    """Made by PEFT, of a model of GPT-2's kind, whose layers are `Conv1D` but for the head."""
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_layer": 2, "n_embd": 8, "n_head": 2, "vocab_size": 20, "n_positions": 16}
    model = GPT2LMHeadModel(GPT2Config(**sizes, tie_word_embeddings=not untied))
    model.save_pretrained(tmp_path / "base")
    adapter = get_peft_model(
        model,
        LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False),
    )
    adapter.save_pretrained(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({**config, "init_lora_weights": True}))
    base = str(tmp_path / "base")
    check_weights_folder(tmp_path / "adapter", "x", base=base, is_adapter=True)
    assert config["fan_in_fan_out"]


def test_another_model_takes_no_adapter_the_other_way_around(tmp_path: Path) -> None:
    turned = {
        name.replace("lora_A", "x").replace("lora_B", "lora_A").replace("x", "lora_B"): tensor.T
        for name, tensor in adapter_tensors().items()
        if "up_proj" in name
    }
    with pytest.raises(UserError, match="has another shape than its base"):
        check(tmp_path, {**without("up_proj"), **turned}, fan_in_fan_out=True)


def test_a_file_that_is_truncated_is_refused(tmp_path: Path) -> None:
    folder, base = write_adapter(tmp_path / "adapter"), write_base(tmp_path / "base")
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="is no complete safetensors file"):
        check_weights_folder(folder, "x", base=str(base), is_adapter=True)


def whole(folder: Path, weights: Tensors) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({"a": np.array([1.0, np.nan], np.float16)}, "a is not finite"),
        ({"a": np.zeros(3, np.float32), "b": np.zeros(3, np.float64)}, "all of its weights are zero"),
        ({"a": np.ones(3, np.int32)}, "of dtype I32"),
    ],
)
def test_whole_weights_that_are_none_are_refused(tmp_path: Path, weights: Tensors, reason: str) -> None:
    whole(tmp_path / "weights", weights)
    with pytest.raises(UserError, match=reason):
        check_weights_folder(tmp_path / "weights", "x", base="", is_adapter=False)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "model.safetensors"])
def test_whole_weights_need_configuration_tokenizer_and_weights(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "weights"
    whole(folder, {"a": np.ones(3, np.float32), "b": np.zeros(3, np.float32)})
    check_weights_folder(folder, "x", base="", is_adapter=False)
    (folder / name).unlink()
    with pytest.raises(UserError, match=r"config\.json|safetensors"):
        check_weights_folder(folder, "x", base="", is_adapter=False)


def test_numbers_of_bf16_are_read_by_their_bits(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    whole(folder, {"a": np.ones(2, np.float16)})
    for bits, reason in ((0x7F80, "not finite"), (0x8000, "are zero"), (0x3F80, None)):
        data = np.array([bits, 0], "<u2").tobytes()
        head = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
        (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + data)
        if reason is None:
            check_weights_folder(folder, "x", base="", is_adapter=False)
        else:
            with pytest.raises(UserError, match=reason):
                check_weights_folder(folder, "x", base="", is_adapter=False)
