"""Launch files, as far as a machine without a cluster can check them."""

from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from paft_ray.config import EngineConfig
from paft_ray.stages.evaluate import engine_nodes


def test_the_on_premises_file_passes_rays_own_validation() -> None:
    config = yaml.safe_load(Path("cluster/on-premises.yaml").read_text())
    validate_config(prepare_config(config))


def test_the_cluster_is_closed_by_default() -> None:
    config = yaml.safe_load(Path("cluster/on-premises.yaml").read_text())
    starts = [c for c in config["head_start_ray_commands"] + config["worker_start_ray_commands"] if "ray start" in c]
    assert all("RAY_AUTH_MODE=token" in c for c in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]


@pytest.mark.parametrize(("engine", "expected"), [({}, ["head", "gpu"]), ({"num_gpus": 1}, ["gpu"]), ({"num_cpus": 64}, [])])
def test_weights_are_made_on_the_living_nodes_that_can_hold_an_engine(engine: dict[str, float], expected: list[str]) -> None:
    nodes = [
        {"NodeID": "head", "Alive": True, "Resources": {"CPU": 4.0}},
        {"NodeID": "gpu", "Alive": True, "Resources": {"CPU": 16.0, "GPU": 1.0}},
        {"NodeID": "gone", "Alive": False, "Resources": {"CPU": 128.0, "GPU": 8.0}},
        {"NodeID": "empty", "Alive": True, "Resources": {}},
    ]
    assert engine_nodes(nodes, EngineConfig(**engine)) == expected
