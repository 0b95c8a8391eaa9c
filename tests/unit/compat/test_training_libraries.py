"""DeepSpeed, PEFT, transformers and torch still have what paft_ray/compat relies on, and where they do not, what only
saves time falls back to the same numbers."""

import copy
import inspect
from types import SimpleNamespace
from typing import Any

import deepspeed
import pytest
import torch
from deepspeed.comm.torch import build_shm_op
from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from peft.tuners.lora import layer as lora_layer
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from paft_ray.compat import deepspeed as compat_deepspeed
from paft_ray.compat import peft as compat_peft
from paft_ray.compat import torch as compat_torch
from paft_ray.compat import transformers as compat_transformers
from paft_ray.training import padding_free
from paft_ray.training.model import repeated_layers
from tests.support.tiny_lora import SIZES, adapted, answers


def model() -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES), attn_implementation="sdpa")


def test_deepspeed_asks_its_table_whether_it_compiles_the_all_reduce(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "deepspeed.ops.__compatible_ops__.get(builder.NAME" in inspect.getsource(build_shm_op)
    monkeypatch.setattr(deepspeed.ops, "__compatible_ops__", {"deepspeed_shm_comm": True}, raising=False)
    assert compat_deepspeed.skip_shared_memory_op()
    assert deepspeed.ops.__compatible_ops__ == {"deepspeed_shm_comm": False}


def test_the_real_table_names_the_all_reduce() -> None:
    assert "deepspeed_shm_comm" in deepspeed.ops.__compatible_ops__


@pytest.mark.parametrize("table", [{}, None, {"other": True}])
def test_where_the_table_has_moved_deepspeed_is_left_alone(
    table: Any, monkeypatch: pytest.MonkeyPatch, warnings: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deepspeed.ops, "__compatible_ops__", table, raising=False)
    assert not compat_deepspeed.skip_shared_memory_op()
    assert deepspeed.ops.__compatible_ops__ == table
    assert "is not in the installed version" in warnings.text


def test_the_step_count_is_in_the_state_of_torchs_optimizer() -> None:
    for zero in (DeepSpeedZeroOptimizer, DeepSpeedZeroOptimizer_Stage3):
        assert "self.optimizer = init_optimizer" in inspect.getsource(zero.__init__)
    weight = torch.nn.Parameter(torch.ones(2))
    inner = torch.optim.AdamW([weight])
    weight.grad = torch.ones(2)
    inner.step()
    for stage, optimizer in ((0, inner), (2, SimpleNamespace(optimizer=inner))):
        engine = SimpleNamespace(optimizer=optimizer, zero_optimization_stage=lambda stage=stage: stage)
        compat_deepspeed.set_step_count(engine, 40 + stage)
        assert inner.state[weight]["step"] == 40 + stage


def test_peft_hands_its_forward_to_a_variant() -> None:
    source = inspect.getsource(lora_layer.Linear.forward)
    assert "self.lora_variant[active_adapter].forward(" in source
    assert list(inspect.signature(lora_layer.LoraVariant.forward).parameters)[:4] == [
        "module",
        "active_adapter",
        "x",
        "result",
    ]
    (layer, *_) = compat_peft.adapted_linears(adapted("fp32"))
    assert layer.cast_input_dtype_enabled is True
    assert list(layer.lora_variant) == list(layer.lora_A)


def test_where_pefts_variants_have_moved_its_own_forward_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, warnings: pytest.LogCaptureFixture
) -> None:
    """In bf16, too: tests/unit/training/test_fused_lora.py compares both with fp32."""
    fused = answers(adapted("fp32"), "fp32")
    monkeypatch.delattr(lora_layer, "LoraVariant")
    plain = adapted("fp32")
    assert not any(layer.lora_variant for layer in compat_peft.adapted_linears(plain))
    assert "LoraVariant is not in the installed version" in warnings.text
    for found, wanted in zip(fused, answers(plain, "fp32"), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_where_the_cast_has_moved_peft_casts(warnings: pytest.LogCaptureFixture) -> None:
    compat_peft.keep_input_dtype(SimpleNamespace())
    assert "cast_input_dtype_enabled is not in the installed version" in warnings.text


def test_a_model_says_which_attention_it_runs_and_whether_it_can_be_exchanged() -> None:
    plain = model()
    assert compat_transformers.attention_of(plain) == "sdpa"
    assert compat_transformers.attention_of(SimpleNamespace(module=plain)) == "sdpa", "a DeepSpeed engine"
    plain.set_attn_implementation(padding_free.PADDING_FREE)
    assert compat_transformers.attention_of(plain) == padding_free.PADDING_FREE
    assert compat_transformers.has_exchangeable_attention(plain)
    assert list(inspect.signature(sdpa_attention_forward).parameters)[:5] == [
        "module",
        "query",
        "key",
        "value",
        "attention_mask",
    ]


def test_where_a_model_does_not_say_it_its_rows_are_padded() -> None:
    silent = SimpleNamespace(is_backend_compatible=lambda: True)
    assert not compat_transformers.has_exchangeable_attention(silent)
    assert compat_transformers.attention_of(SimpleNamespace(config=SimpleNamespace())) is None


def test_the_layers_of_a_model_are_named_and_one_that_names_none_is_compiled_as_a_whole() -> None:
    plain = model()
    assert compat_transformers.repeated_layer_names(plain) == {"LlamaDecoderLayer"}
    assert len(repeated_layers(plain)) == 2
    bare = torch.nn.Linear(2, 2)
    assert repeated_layers(bare) == [bare]


def test_torch_has_attention_over_rows_of_several_lengths() -> None:
    assert compat_torch.varlen_attention is not None
    names = list(inspect.signature(compat_torch.varlen_attention).parameters)
    assert names[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert {"scale", "window_size", "enable_gqa"} <= set(names)


def test_where_torch_has_none_it_is_known_at_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat_torch, "_MODULE", "torch.nn.attention.gone")
    assert compat_torch._varlen_attention() is None


def test_a_copy_of_an_adapted_model_runs_the_same_forward() -> None:
    first = adapted("fp32")
    for found, wanted in zip(answers(copy.deepcopy(first), "fp32"), answers(first, "fp32"), strict=True):
        torch.testing.assert_close(found, wanted)
