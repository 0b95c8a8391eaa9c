"""Engines wait only where a training gets all that it asks for."""

import json
import struct
from pathlib import Path

import pytest

from paft_ray.config import load_config
from paft_ray.stages.idle_engines import have_room

PLENTY = {"CPU": 4.0, "memory": 16 * 2**30}


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A folder whose weights' head says 100 M weights; the weights are a hole in the file."""
    head = json.dumps({"lm_head.weight": {"dtype": "F32", "shape": [10_000, 10_000], "data_offsets": [0, 4 * 10**8]}})
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head.encode())
        file.truncate(8 + len(head) + 4 * 10**8)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("changes", "machine", "room"),
    [
        ((), PLENTY, True),
        ((), {**PLENTY, "CPU": 3.0}, False),
        ((), {**PLENTY, "memory": 2 * 2**30}, False),
        ((), {"CPU": 4.0}, False),
        (("train.num_workers=4", "train.micro_batch=1"), PLENTY, False),
        (("train.num_workers=4", "train.micro_batch=1"), {**PLENTY, "CPU": 6.0}, True),
        (("engine.replicas=2",), PLENTY, False),
        (("engine.num_gpus=1",), {**PLENTY, "GPU": 8.0}, False),
        (("engine.kv_cache_gib=12",), PLENTY, False),
    ],
)
def test_engines_wait_on_one_machine_whose_cpus_and_memory_hold_both(
    model: str, changes: tuple[str, ...], machine: dict[str, float], room: bool
) -> None:
    assert have_room(load_config("jobs/configs/demo.yaml", changes), model, machine) == room
