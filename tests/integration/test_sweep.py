"""`paft sweep`: Ray Tune over the size of the prompt set."""

from pathlib import Path

import pytest

from paft_ray.artifacts import Run
from paft_ray.config import load_config
from paft_ray.errors import StageError, UserError
from paft_ray.stages import sweep

DEMO = "jobs/configs/demo.yaml"
SMALL = (
    "name=sweep",
    "data.num_train=24",
    "data.num_validation=4",
    "data.num_test=4",
    "prompts.generators=[]",
    "train.num_steps=2",
    "train.global_batch=8",
    "train.micro_batch=4",
    "evaluate.speed_rows=0",
    "sweep.sizes=[1,3]",
)


@pytest.mark.slow
def test_a_sweep_of_two_sizes_writes_figures_and_a_curve_and_is_kept(tmp_path: Path, ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config(DEMO, [*SMALL, f"storage={tmp_path}"])
    run = Run.open(config.storage, config.name)
    sweep.run(config, run)
    written = run.read_json("report/sweep.json")
    assert [(row["size"], row["seed"]) for row in written["sizes"]] == [(1, 0), (3, 0)]
    assert all({"mean", "std", "worst"} <= set(row) for row in written["sizes"])
    assert [point["size"] for point in written["curve"]] == [1, 3]
    assert all(point["low"] <= point["mean"] <= point["high"] for point in written["curve"])
    assert written["engine_starts"] == 2
    for size in (1, 3):
        steps = run.read_bytes(f"sweep/size{size}-subset0/metrics.jsonl").splitlines()
        assert len(steps) == 2, "equal optimizer steps"
    assert run.exists("report/sweep.svg")
    assert "held-out accuracy by size" in capsys.readouterr().out

    before = run.content_hash("sweep/outcomes.parquet")
    sweep.run(config, run)
    assert run.content_hash("sweep/outcomes.parquet") == before
    assert "sweep: finished before, kept" in capsys.readouterr().out


def _fails_at_two(config: dict[str, dict[str, int]]) -> None:
    from ray import tune

    if config["point"]["size"] == 2:
        raise RuntimeError("no room")
    tune.report({"loss": 1.0})


def test_a_trial_that_fails_does_not_end_the_others(tmp_path: Path, ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config(DEMO, [*SMALL, f"storage={tmp_path}"])
    points = [{"size": size, "subset_seed": 0} for size in (1, 2, 4)]
    finished = sweep.train_points(config, Run(str(tmp_path / "sweep")), points, _fails_at_two)
    assert [point["size"] for point in finished] == [1, 4]
    assert "a trial failed" in capsys.readouterr().out
    with pytest.raises(StageError, match="every trial failed"):
        sweep.train_points(config, Run(str(tmp_path / "none")), points[1:2], _fails_at_two)


def test_sizes_beyond_the_training_set_are_refused(tmp_path: Path, ray_session: None) -> None:
    config = load_config(DEMO, [*SMALL, f"storage={tmp_path}", "sweep.sizes=[1,500]"])
    with pytest.raises(UserError, match=r"sweep.sizes: \[500\] asked for"):
        sweep.run(config, Run.open(config.storage, config.name))


def test_trials_side_by_side_follow_from_what_the_cluster_holds() -> None:
    cpu, gpu = load_config(DEMO).train, load_config(DEMO, ["train.gpus_per_worker=1", "train.num_workers=2"]).train
    assert sweep.concurrency(cpu, {"CPU": 4}, num_nodes=1) == 1
    assert sweep.concurrency(cpu, {"CPU": 64}, num_nodes=3) == 3
    assert sweep.concurrency(gpu, {"CPU": 64, "GPU": 8}, num_nodes=1) == 4
    assert sweep.concurrency(gpu, {"CPU": 1}, num_nodes=1) == 1
