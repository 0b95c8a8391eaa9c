"""The facts of a real local Ray."""

from pathlib import Path

import pytest

from paft_ray.cli import doctor
from paft_ray.cli.cluster_probe import HERE, gather
from paft_ray.config import load_config

DEMO = "jobs/configs/demo.yaml"


def test_every_node_answers_for_itself_and_leaves_nothing_behind(
    ray_session: None, demo_model: str, tmp_path: Path
) -> None:
    root = str(tmp_path / "runs")
    found = gather(root, [("demo", None)])
    (node,) = found.nodes
    assert (node.error, node.unwritable, node.unread) == (None, None, ())
    assert node.models == {"demo": HERE}
    assert [node["CPU"] for node in found.each] == [4]
    assert list(Path(root).iterdir()) == []
    assert [
        finding
        for finding in doctor.judge(found, load_config(DEMO), root)
        if finding.level == "FAIL" and finding.what != "disk"
    ] == []


def test_storage_that_cannot_be_written_and_a_missing_model_are_found(ray_session: None) -> None:
    found = doctor.judge(gather("/proc/none", [("/nowhere/model", None)]), load_config(DEMO), "/proc/none")
    assert {finding.what for finding in found if finding.level == "FAIL"} >= {"storage", "model"}


def test_resources_that_something_holds_are_seen(ray_session: None) -> None:
    import ray

    @ray.remote(num_cpus=3)
    class Holder:
        def ready(self) -> bool:
            return True

    holder = Holder.remote()
    assert ray.get(holder.ready.remote())
    try:
        found = doctor.resources(gather(None, []), load_config(DEMO))
    finally:
        ray.kill(holder)
    assert [finding.level for finding in found] == ["FAIL"]
    assert "1 of 4 CPUs free" in found[0].found


def test_a_node_whose_task_fails_is_told_with_its_reason(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from paft_ray.cli import cluster_probe

    def fails(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'paft_ray'")

    monkeypatch.setattr(cluster_probe, "look", fails)
    (node,) = gather(None, []).nodes
    assert node.error == "ModuleNotFoundError: No module named 'paft_ray'"
