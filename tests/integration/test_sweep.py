"""`paft sweep`: Ray Tune over the size of the prompt set and training settings."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from paft_ray.config import Config, load_config
from paft_ray.errors import StageError, UserError
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.stages import prepare, synthesize
from paft_ray.storage.outputs import file_digest
from paft_ray.storage.store import Store
from paft_ray.sweep import ray_tune, stage
from paft_ray.sweep.trials import Setup, Trial, chosen
from tests.support.own_task import write_own_task
from tests.support.resolved import resolved
from tests.support.small_run import SMALL

DEMO = "jobs/configs/demo.yaml"
SETTINGS = (
    "name=sweep",
    *SMALL,
    "sweep.sizes=[1,3]",
    "sweep.subset_seeds=[0]",
)


def small(tmp_path: Path, *settings: str) -> Config:
    return load_config(DEMO, [*SETTINGS, f"storage={tmp_path}", *settings])


def own(*settings: str) -> Config:
    """As `small`, of the user's own task in the working folder."""
    return load_config("run.yaml", [*SETTINGS, *settings])


@pytest.mark.slow
def test_a_sweep_of_two_sizes_writes_figures_and_a_curve_and_is_kept(
    tmp_path: Path,
    ray_session: None,
    demo_model: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a task of the user's own at relative paths: Tune starts every trial in a folder of the trial."""
    monkeypatch.chdir(write_own_task(tmp_path, demo_model))
    config = own()
    run = Store.open(config.storage, config.name)
    stage.run(resolved(config, run))
    written = run.read_json("report/sweep.json")
    assert [(row["size"], row["seed"]) for row in written["sizes"]] == [(1, 0), (3, 0)]
    assert all({"mean", "std", "worst"} <= set(row) for row in written["sizes"])
    assert [point["size"] for point in written["curve"]] == [1, 3]
    assert all(point["low"] <= point["mean"] <= point["high"] for point in written["curve"])
    assert written["engine_starts"] == written["planned_engine_starts"] == 1
    assert written["trials"] == {"finished": 2, "failed": 0, "reused": 0, "stopped": 0}
    for size in (1, 3):
        steps = run.read_bytes(f"sweep/size{size}-subset0/metrics.jsonl").splitlines()
        assert len(steps) == 2, "equal optimizer steps"
    assert run.exists("report/sweep.svg")
    assert "held-out accuracy by size" in capsys.readouterr().out

    before = file_digest(run, "sweep/outcomes.parquet")
    stage.run(resolved(config, run))
    assert file_digest(run, "sweep/outcomes.parquet") == before
    assert "[sweep] up to date, skipping" in capsys.readouterr().out

    stage.run(resolved(own("sweep.sizes=[1,2,3]"), run))
    written = run.read_json("report/sweep.json")
    assert written["trials"] == {"finished": 3, "failed": 0, "reused": 2, "stopped": 0}, (
        "a size more trains that size alone"
    )
    assert written["engine_starts"] == 2, "over the life of the sweep"


@pytest.mark.slow
def test_a_killed_sweep_repeats_no_finished_trial_and_ends_in_the_same_table(tmp_path: Path) -> None:
    whole, killed = (
        [sys.executable, "jobs/sweep.py", DEMO, *(f"--set={s}" for s in (*SETTINGS, f"storage={tmp_path / name}"))]
        for name in ("whole", "killed")
    )
    first = tmp_path / "killed" / "sweep" / "sweep" / "size1-subset0" / "manifest.json"
    process = subprocess.Popen(killed, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 400
        while not first.exists():
            assert process.poll() is None, "the sweep ended before it could be killed"
            assert time.monotonic() < deadline, "no trial finished in time"
            time.sleep(0.2)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    made = first.stat().st_mtime_ns
    again = subprocess.run(killed, check=True, capture_output=True, text=True)
    assert first.stat().st_mtime_ns == made, "the finished trial was not trained again"
    subprocess.run(whole, check=True, stdout=subprocess.DEVNULL)
    results = [
        json.loads((tmp_path / name / "sweep" / "report" / "sweep.json").read_text()) for name in ("whole", "killed")
    ]
    assert results[1]["trials"] == {"finished": 2, "failed": 0, "reused": 1, "stopped": 0}, again.stdout[-500:]
    for result in results:
        result.pop("trials")
    assert results[0] == results[1]


def setup_of(config: Config, run: Store, **changes: Any) -> Setup:
    prompts = PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet")).split("train")
    values = {"pool": prompts, "validation": PromptSet(()), "inputs": {}, **changes}
    return Setup(resolved=resolved(config, run), **values)


def _fails_at_two(config: dict[str, Any], setup: Setup, listed: list[Trial]) -> None:
    from ray import tune

    trial = listed[config["trial"]]
    if trial.size == 2:
        raise RuntimeError("no room")
    begin = time.time()
    tune.report({"final_loss": 1.0})
    time.sleep(1)
    setup.resolved.store.write_json(f"sweep/{trial.name}/manifest.json", {"begin": begin, "end": time.time()})


def test_a_trial_that_fails_does_not_end_the_others(
    tmp_path: Path, ray_session: None, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(tmp_path)
    run = Store.open(config.storage, config.name)
    prepare.run(resolved(config, run))
    synthesize.run(resolved(config, run))
    setup, trials = setup_of(config, run), [Trial(size=size, subset_seed=0) for size in (1, 2, 4)]
    found = ray_tune.train_trials(setup, trials, _fails_at_two)
    assert (list(found.finished), found.failed, found.reused) == (
        ["size1-subset0", "size4-subset0"],
        ("size2-subset0",),
        (),
    )
    shown = capsys.readouterr()
    assert len([line for line in shown.out.splitlines() if "failed: RuntimeError: no room; traceback: " in line]) == 1
    assert "Traceback" not in shown.out + shown.err
    (kept,) = Path(run.root, "logs").glob("sweep-size2-subset0-*.txt")
    assert "in _fails_at_two" in kept.read_text()
    first, second = (run.read_json(f"sweep/{name}/manifest.json") for name in found.finished)
    assert first["end"] <= second["begin"], "one at a time: the workers of one trial fill this machine"
    with pytest.raises(StageError, match="no trial of the sweep finished"):
        ray_tune.train_trials(setup, trials[1:2], _fails_at_two)


def _reports_by_rate(config: dict[str, Any], setup: Setup, listed: list[Trial]) -> None:
    from ray import tune

    trial = chosen(listed, config)
    for step in range(1, 9):
        tune.report({"step": step, "validation_loss": abs(trial.settings["learning_rate"] - 0.003)})
    setup.resolved.store.write_json(f"sweep/{trial.name}/manifest.json", {})


@pytest.mark.slow
@pytest.mark.parametrize("searcher", ["null", "{name: optuna}"])
def test_asha_ends_worse_trials_early_and_the_same_trials_come_again(
    tmp_path: Path, ray_session: None, searcher: str
) -> None:
    settings = (
        "sweep.space.learning_rate={loguniform: [1.0e-4, 1.0e-1]}",
        "sweep.num_samples=8",
        "sweep.scheduler={name: asha, options: {grace_period: 2, reduction_factor: 2}}",
        f"sweep.searcher={searcher}",
        "sweep.max_concurrent=1",
    )
    config = small(tmp_path, *settings)
    run = Store.open(config.storage, config.name)
    prepare.run(resolved(config, run))
    synthesize.run(resolved(config, run))
    trials = [Trial(size=2, subset_seed=0)]
    found = ray_tune.train_trials(setup_of(config, run), trials, _reports_by_rate)
    assert len(found.finished) + len(found.stopped) == 8
    assert found.stopped, "some trial was worse than the better half"
    best = min(found.finished.values(), key=lambda trial: abs(trial.settings["learning_rate"] - 0.003))
    assert all(
        abs(float(name.rsplit("learning_rate", 1)[1]) - 0.003) >= abs(best.settings["learning_rate"] - 0.003)
        for name in found.stopped
    )
    again = ray_tune.train_trials(setup_of(config, run), trials, _reports_by_rate)
    assert set(again.reused) == set(found.finished), "seeded: a sweep that is started again meets the same trials"


@pytest.mark.slow
def test_trials_with_settings_are_compared_on_validation_templates(tmp_path: Path, ray_session: None) -> None:
    settings = (
        "sweep.sizes=[2]",
        "sweep.space.learning_rate=[1.0e-3, 1.0e-6]",
        "sweep.scheduler={name: asha, options: {grace_period: 4, reduction_factor: 2}}",
        "train.num_steps=8",
        "sweep.max_concurrent=1",
    )
    config = small(tmp_path, *settings)
    run = Store.open(config.storage, config.name)
    stage.run(resolved(config, run))
    written = run.read_json("report/sweep.json")
    assert written["trials"] == {"finished": 1, "failed": 0, "reused": 0, "stopped": 1}, (
        "the rate that hardly learns is ended early"
    )
    assert [row["settings"] for row in written["sizes"]] == [{"learning_rate": 1e-3}]
    steps = [
        json.loads(line) for line in run.read_bytes("sweep/size2-subset0-learning_rate0.001/metrics.jsonl").splitlines()
    ]
    assert all("validation_loss" in row for row in steps), "eight validations on the way"
    stopped = (
        run.read_bytes("sweep/size2-subset0-learning_rate1e-06/metrics.jsonl")
        if run.exists("sweep/size2-subset0-learning_rate1e-06/metrics.jsonl")
        else b""
    )
    assert len(stopped.splitlines()) < 8


def test_sizes_beyond_the_training_set_are_refused(tmp_path: Path, ray_session: None) -> None:
    config = small(tmp_path, "sweep.sizes=[1,500]")
    with pytest.raises(UserError, match=r"sweep.sizes: \[500\] asked for"):
        stage.run(resolved(config, Store.open(config.storage, config.name)))


def test_a_sweep_begun_with_other_inputs_is_refused_and_more_sizes_are_not(tmp_path: Path, ray_session: None) -> None:
    config = small(tmp_path)
    run = Store.open(config.storage, config.name)
    prepare.run(resolved(config, run))
    synthesize.run(resolved(config, run))
    run.write_json("sweep/inputs.json", stage.setup(resolved(config, run)).inputs)
    other = small(tmp_path, "train.learning_rate=0.5")
    named = rf"begun with other inputs \(train\.learning_rate: {config.train.learning_rate} -> 0\.5\)"
    with pytest.raises(UserError, match=named):
        stage.run(resolved(other, run))


def test_trials_side_by_side_follow_from_what_the_cluster_holds() -> None:
    cpu, gpu = load_config(DEMO).train, load_config(DEMO, ["train.gpus_per_worker=1", "train.num_workers=2"]).train
    assert ray_tune.concurrency(cpu, {"CPU": 4}, num_nodes=1) == 1
    assert ray_tune.concurrency(cpu, {"CPU": 64}, num_nodes=3) == 3
    assert ray_tune.concurrency(gpu, {"CPU": 64, "GPU": 8}, num_nodes=1) == 4
    assert ray_tune.concurrency(gpu, {"CPU": 1}, num_nodes=1) == 1
