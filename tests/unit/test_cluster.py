"""Launch files, as far as a machine without a cluster can check them."""

from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config


def test_the_on_premises_file_passes_rays_own_validation() -> None:
    config = yaml.safe_load(Path("cluster/on-premises.yaml").read_text())
    validate_config(prepare_config(config))


def test_the_cluster_is_closed_by_default() -> None:
    config = yaml.safe_load(Path("cluster/on-premises.yaml").read_text())
    starts = [c for c in config["head_start_ray_commands"] + config["worker_start_ray_commands"] if "ray start" in c]
    assert all("RAY_AUTH_MODE=token" in c for c in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
