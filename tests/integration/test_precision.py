"""The nodes of a real Ray are asked which number format they multiply fast."""

from pathlib import Path

import pytest
import ray

from paft_ray.config import fast_precision, load_config
from paft_ray.stages import precision
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.store import Store


def test_the_node_that_computes_answers_for_engine_and_training(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = ResolvedRun.of(load_config("jobs/configs/demo.yaml"), Store(str(tmp_path)))
    (node,) = [node for node in ray.nodes() if node["Alive"]]
    expected = {node["NodeManagerAddress"]: fast_precision(0)}
    assert precision._ask("engine", 1, 0) == expected
    context = ray.get_runtime_context()
    monkeypatch.setattr(type(context), "get_node_id", lambda self: "elsewhere")
    assert precision._ask("train", 1, 0) == expected, "asked by a task on the node"
    assert precision._ask("train", 999, 0) == {}
    found = precision.with_known_precision(resolved, ["engine", "train"]).config
    assert found.engine.model_fields_set >= {"precision"}
    assert (found.engine.precision, found.train.precision) == (fast_precision(0), fast_precision(0))
