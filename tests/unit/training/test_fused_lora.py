"""The adapter's one product is PEFT's LoRA: the same outputs and gradients."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from paft_ray.training.export import export_adapter
from tests.support.tiny_lora import IDS, adapted, answers


def as_peft_does(model: Any) -> Any:
    other = copy.deepcopy(model)
    for layer in other.modules():
        if hasattr(layer, "lora_variant"):
            layer.lora_variant, layer.cast_input_dtype_enabled = {}, True
    return other


def test_outputs_and_gradients_are_those_of_peft() -> None:
    model = adapted("fp32")
    assert sum(len(getattr(module, "lora_variant", {})) for module in model.modules()) == 14
    for found, wanted in zip(answers(model, "fp32"), answers(as_peft_does(model), "fp32"), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_under_autocast_it_is_as_near_to_fp32_as_peft_is() -> None:
    model, exact = adapted("bf16"), answers(as_peft_does(adapted("fp32")), "fp32")
    errors = []
    for one in (model, as_peft_does(model)):
        errors.append(
            sum(
                float((found - wanted).norm() / wanted.norm())
                for found, wanted in zip(answers(one, "bf16"), exact, strict=True)
            )
        )
    assert errors[0] <= 1.05 * errors[1]
    assert errors[1] < 0.05 * len(exact)


def test_with_weights_that_are_gathered_per_module_peft_runs_as_it_is() -> None:
    assert not any(getattr(module, "lora_variant", None) for module in adapted("fp32", zero_stage=3).modules())


def test_dropout_is_that_of_peft() -> None:
    model = adapted("fp32", lora={"rank": 4, "alpha": 10, "dropout": 0.5})
    logits = []
    for one in (model, as_peft_does(model)):
        torch.manual_seed(3)
        logits.append(one.train()(input_ids=IDS).logits)
    torch.testing.assert_close(*logits)


def test_a_model_in_training_is_not_merged() -> None:
    with pytest.raises(NotImplementedError, match="save the adapter"):
        adapted("fp32").merge_and_unload()


@pytest.mark.parametrize("base_id", ["owner/name", "HuggingFaceTB/SmolLM2-135M-Instruct", None])
def test_an_adapter_names_the_id_of_its_base_and_no_folder_of_this_machine(tmp_path: Path, base_id: str | None) -> None:
    model = adapted("fp32")
    model.peft_config["default"].base_model_name_or_path = "/home/me/cache/models--owner--name/snapshots/abc"
    weights = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    export_adapter(SimpleNamespace(module=model), weights, tmp_path, base_id=base_id)
    written = json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert written == (base_id or "/home/me/cache/models--owner--name/snapshots/abc")
