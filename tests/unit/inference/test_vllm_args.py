"""Engine arguments that make room for adapters."""

import pytest

from paft_ray.config import EngineConfig, engine_key
from paft_ray.config.engine import trained_engine_key
from paft_ray.errors import UserError
from paft_ray.inference.vllm_args import adapter_settings, check_adapter_rank


@pytest.mark.parametrize(("rank", "room"), [(1, 1), (4, 8), (8, 8), (12, 16), (64, 64), (300, 320), (512, 512)])
def test_room_for_a_rank_is_one_that_vllm_knows(rank: int, room: int) -> None:
    check_adapter_rank(rank)
    found = adapter_settings(rank)
    assert (found["enable_lora"], found["max_lora_rank"]) == (True, room)


def test_without_adapters_there_is_none() -> None:
    assert adapter_settings(0) == {}


def test_a_rank_that_is_not_served_is_refused() -> None:
    with pytest.raises(UserError, match="rank 513, vLLM serves up to 512"):
        check_adapter_rank(513)


def test_how_adapters_answer_is_in_the_keys_of_trained_models_alone() -> None:
    merged, served = EngineConfig(precision="fp32"), EngineConfig(precision="fp32", adapters="lora")
    assert engine_key(served) == engine_key(merged) == trained_engine_key(merged)
    assert trained_engine_key(served) == {**engine_key(merged), "adapters": "lora"}
