"""`train.deepspeed` holds what trades memory for speed: batches, optimizer, precision and files are not in it."""

from typing import Any

import pytest
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

from paft_ray.config import TrainConfig, parse_config
from paft_ray.config.deepspeed_settings import OWNED, SETTINGS
from paft_ray.errors import UserError
from paft_ray.training.deepspeed_config import deepspeed_config


def refused(**values: Any) -> str:
    with pytest.raises(UserError) as error:
        parse_config({"name": "t", "task": "demo", "train": values}, "t.yaml")
    return str(error.value)


def test_what_is_allowed_reaches_deepspeed_and_is_known_there() -> None:
    given = {"overlap_comm": False, "stage3_prefetch_bucket_size": 1000}
    config = TrainConfig(zero_stage=3, deepspeed=given)
    values = deepspeed_config(config, 1)["zero_optimization"]
    assert given.items() <= values.items()
    known = {field.alias or name for name, field in DeepSpeedZeroConfig.model_fields.items()}
    assert SETTINGS.keys() <= known


@pytest.mark.parametrize("name", sorted(OWNED))
def test_what_is_ours_is_refused_with_the_setting_that_decides_it(name: str) -> None:
    message = refused(deepspeed={name: 1})
    assert f"{name}: is decided by train." in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"nvme_path": "/tmp"}, "not passed on; nearest allowed"),
        ({"zero_hpz_partition_size": 2}, "not passed on"),
        ({"overlap_com": True}, "nearest allowed: overlap_comm"),
        ({"overlap_comm": "yes"}, "(given 'yes')"),
        ({"reduce_bucket_size": 0}, "greater than or equal to 1"),
        ({"reduce_bucket_size": 5e8}, "valid integer"),
        ({"reduce_bucket_size": {"a": 1}}, "(given dict)"),
        ({"stage3_max_live_parameters": 10}, "needs train.zero_stage of 3, given 2"),
    ],
)
def test_anything_else_is_refused_in_one_line(settings: dict[str, Any], part: str) -> None:
    message = refused(zero_stage=2, deepspeed=settings)
    assert part in message
    assert "train.deepspeed" in message


def test_they_decide_no_weights() -> None:
    from paft_ray.config.train import weights_key

    assert weights_key(TrainConfig(deepspeed={"overlap_comm": True})) == weights_key(TrainConfig())


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_communication_overlaps_by_default_with_stage_3_alone(stage: int) -> None:
    assert deepspeed_config(TrainConfig(zero_stage=stage), 1)["zero_optimization"]["overlap_comm"] == (stage == 3)
