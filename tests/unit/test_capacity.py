"""The capacity calculator against models that are counted, autograd itself, and the measured demo."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from paft_ray import capacity
from paft_ray.config import TrainConfig
from paft_ray.models.files import shapes
from paft_ray.training.deepspeed_config import BUCKET_ELEMENTS

WORKER_TOLERANCE = 0.25  # of the demo's largest worker: Ray's worker, row iterators and the allocator are not counted
ELEMENT_TOLERANCE = 0.04  # 3 % of the formula, and what only so small a model notices


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("capacity_page", "scripts/capacity_page.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


PAGE = script()
DEMO = PAGE.DEMO.shapes()


def train(**values: object) -> TrainConfig:
    return TrainConfig.model_validate(
        {"num_workers": 4, "global_batch": 64, "gpus_per_worker": 1, "precision": "bf16", **values}
    )


def test_the_page_is_that_of_the_calculator() -> None:
    assert Path("docs/capacity.md").read_text(encoding="utf-8") == PAGE.page(), "run python scripts/capacity_page.py"


def test_shapes_from_public_figures_add_up_to_the_published_sizes() -> None:
    assert [capacity.num_weights(model.shapes()) for model in (PAGE.DEMO, *PAGE.MODELS)] == [
        134_515_008,
        8_030_261_248,
        70_553_706_496,
    ]


@pytest.mark.parametrize("arm", ["sft", "top_accuracy", "paft"])
def test_the_demos_largest_worker_is_met_within_the_stated_tolerance(arm: str) -> None:
    config = TrainConfig.model_validate(PAGE.DEMO_TRAIN)
    found = capacity.PROCESS_GIB + capacity.worker_memory(config, DEMO, tokens_per_row=PAGE.DEMO_TOKENS[arm]).device
    assert found == pytest.approx(PAGE.MEASURED_GIB[arm], rel=WORKER_TOLERANCE)


def test_storage_of_the_demos_training_is_that_of_its_files() -> None:
    config = TrainConfig.model_validate(PAGE.DEMO_TRAIN)
    found = capacity.training_storage_bytes(config, DEMO, num_steps=50)
    assert found / 1e6 == pytest.approx(sum(PAGE.MEASURED_MB.values()), rel=0.01)
    assert capacity.training_storage_bytes(config, DEMO, num_steps=None) / found == pytest.approx(
        7 / 4
    )  # two checkpoints instead of one


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_those_that_autograd_saves(checkpointing: bool, tmp_path: Path) -> None:
    """A model with the proportions of Llama-3-8B, a sixteenth as wide, two blocks."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from paft_ray.training.collate import collate
    from paft_ray.training.example_builder import Row
    from paft_ray.training.model import build_model
    from paft_ray.training.validation import forward

    small = LlamaConfig(
        vocab_size=64,
        hidden_size=256,
        intermediate_size=896,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(small).save_pretrained(tmp_path)
    config = TrainConfig.model_validate(
        {"precision": "fp32", "gradient_checkpointing": checkpointing, "lora": {"rank": 1}}
    )
    model = build_model(str(tmp_path), config, seed=0, device="cpu")
    model.set_attn_implementation(
        "sdpa"
    )  # on a CPU packed rows are copied once more; a GPU's kernel takes them as they lie
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept, sizes = [], {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and tensor.is_floating_point():
            kept.append(tensor)  # else its address would be used again
            sizes[storage.data_ptr()] = storage.nbytes() / 4
        return tensor

    batch, seq = 2, 256
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        row = Row(
            position=0,
            epoch=0,
            weight=1.0,
            prompt_ids=[1] * (seq - 1),
            answer_ids=[1],
            template="",
            truncated_characters=0,
            example_id="",
        )
        forward(model, collate([row] * batch))
    expected, _ = capacity.activation_elements(shapes(str(tmp_path)), checkpointing=checkpointing)
    assert sum(sizes.values()) / batch / seq == pytest.approx(expected, rel=ELEMENT_TOLERANCE)


@pytest.mark.parametrize("lora", [{"rank": 8}, None])
def test_each_zero_stage_holds_less_of_the_optimizer(lora: dict[str, int] | None) -> None:
    memory = [
        capacity.worker_memory(train(zero_stage=stage, lora=lora), PAGE.MODELS[0].shapes(), tokens_per_row=512)
        for stage in (0, 1, 2, 3)
    ]
    states = [m.optimizer for m in memory]
    bucket = BUCKET_ELEMENTS * 4 / capacity.GIB
    trained = capacity.trained_weights(train(lora=lora), PAGE.MODELS[0].shapes()) / capacity.GIB
    buckets = (0, bucket, bucket, 2 * bucket)  # with stage 3 communication overlaps
    assert [state - held for state, held in zip(states, buckets, strict=True)] == pytest.approx(
        [trained * bytes_ for bytes_ in (12, 4 + 3, 1 + 3, 1 + 2)]
    )
    assert memory[3].weights < memory[2].weights == memory[1].weights == memory[0].weights


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_cpu_worker_holds_the_weights_that_the_built_model_has(precision: str, tied: bool, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from paft_ray.training.model import build_model

    small = LlamaConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=tied,
    )
    LlamaForCausalLM(small).save_pretrained(tmp_path)
    config = TrainConfig.model_validate({"precision": precision})
    held = sum(
        weight.numel() * weight.element_size()
        for weight in build_model(str(tmp_path), config, seed=0, device="cpu").parameters()
    )
    assert capacity.worker_memory(config, shapes(str(tmp_path)), tokens_per_row=50).weights * capacity.GIB == held


def test_offload_moves_the_optimizer_and_then_the_weights_off_the_device() -> None:
    weights = PAGE.MODELS[0].shapes()
    inside, optimizer, both = (
        capacity.worker_memory(train(zero_stage=3, lora=None, offload=kind), weights, tokens_per_row=512)
        for kind in ("none", "optimizer", "optimizer_and_weights")
    )
    assert inside.offloaded == 0
    assert optimizer.device + optimizer.offloaded == pytest.approx(inside.device)
    assert both.device + both.offloaded == pytest.approx(inside.device)
    assert both.weights < optimizer.weights == inside.weights


def test_hours_are_shared_by_replicas() -> None:
    assert capacity.hours(7_200_000, 1_000) == 2.0
    assert capacity.hours(7_200_000, 1_000, replicas=4) == 0.5
