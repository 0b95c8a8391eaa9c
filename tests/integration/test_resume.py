"""A training that is killed and started again equals one that was left alone, and the audit finds every example once
per epoch. Invariants 2, 4."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import ray

from paft_ray.cli.audit import audit
from paft_ray.cli.main import main
from paft_ray.config import load_config
from paft_ray.stages import prepare, synthesize, train
from paft_ray.storage.store import Store
from paft_ray.training.step_metrics import read_metrics
from tests.support.killing import (
    kill_a_worker,
    newest_checkpoint,
    train_workers,
    wait_for_checkpoint,
    wait_for_no_workers,
)
from tests.support.resolved import resolved

pytestmark = pytest.mark.slow

DEMO = "jobs/configs/demo.yaml"
NUM_EXAMPLES, BATCH, EPOCHS, EVERY = 40, 8, 9.3, 5
STEPS = 47
SETTINGS = (
    f"data.num_train={NUM_EXAMPLES}",
    "data.num_validation=8",
    "data.num_test=4",
    "prompts.generators=[]",
    "score.enabled=false",
    "train.arms=[paft]",
    "train.num_steps=null",
    f"train.num_epochs={EPOCHS}",
    f"train.global_batch={BATCH}",
    "train.micro_batch=4",
    "train.precision=fp32",
    "train.threads_per_worker=1",
    "train.num_workers=1",
    f"train.checkpoint_every={EVERY}",
    f"train.validate_every={STEPS}",
    "train.num_validation=8",
    "train.learning_rate=3e-3",
)


@dataclass(frozen=True, kw_only=True)
class Started:
    """A run whose rows and templates are there."""

    storage: Path
    name: str
    settings: tuple[str, ...]

    @property
    def run(self) -> Store:
        return Store(f"{self.storage}/{self.name}")

    @property
    def training(self) -> Path:
        return self.storage / self.name / "train/paft-s0"

    def train(self, *settings: str) -> dict[str, Any]:
        """Stage `train` in this process, to its end; its manifest."""
        config = load_config(DEMO, [*self.settings, *settings])
        self.run.write_json("config.json", config.model_dump(mode="json"))
        return train.run(resolved(config, self.run))

    def kill_the_driver(self, after_step: int, delay_s: float, *settings: str) -> int:
        """Starts `paft train` in a process of its own and kills it `delay_s` after the checkpoint of a step; the newest
        checkpoint's step then."""
        options = [part for setting in (*self.settings, *settings) for part in ("--set", setting)]
        address = ray.get_runtime_context().gcs_address
        command = [sys.executable, "-m", "paft_ray", "train", DEMO, "--address", address, *options]
        driver = subprocess.Popen(command, env={**os.environ, "RAY_AUTH_MODE": "token"})
        try:
            wait_for_checkpoint(self.training, after_step)
            time.sleep(delay_s)
            assert driver.poll() is None, "training was over before its driver could be killed"
        finally:
            os.kill(driver.pid, signal.SIGKILL)
            driver.wait()
        wait_for_no_workers()
        return newest_checkpoint(self.training)

    @property
    def losses(self) -> list[float]:
        return [row["loss"] for row in read_metrics(self.run.below("train/paft-s0"))]

    @property
    def validation_loss(self) -> float:
        return read_metrics(self.run.below("train/paft-s0"))[-1]["validation_loss"]

    @property
    def adapter(self) -> bytes:
        return self.run.read_bytes("train/paft-s0/adapter/adapter_model.safetensors")


@pytest.fixture(scope="module")
def prepared(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Started:
    storage = tmp_path_factory.mktemp("resume")
    settings = (*SETTINGS, f"model.id={tiny_model}", f"storage={storage}")
    config = load_config(DEMO, [*settings, "name=prepared"])
    run = Store.open(config.storage, config.name)
    prepare.run(resolved(config, run))
    synthesize.run(resolved(config, run))
    return Started(storage=storage, name="prepared", settings=settings)


def _copy(prepared: Started, name: str) -> Started:
    shutil.copytree(prepared.storage / prepared.name, prepared.storage / name)
    return Started(storage=prepared.storage, name=name, settings=(*prepared.settings, f"name={name}"))


@pytest.fixture(scope="module")
def whole(ray_session: None, prepared: Started) -> Started:
    """A training that nothing interrupts."""
    started = _copy(prepared, "whole")
    assert started.train()["models"][0]["num_steps"] == STEPS
    return started


def _agrees(started: Started) -> None:
    """Every example once per epoch under the drawn template, as `paft audit` finds it."""
    (found,) = audit(started.run).values()
    assert (found.lost, found.repeated, found.differing) == (0, 0, 0), found.reported
    assert (found.steps, found.rows) == (STEPS, STEPS * BATCH)
    with pytest.raises(SystemExit) as ended:
        main(["audit", started.run.root])
    assert ended.value.code == 0


def test_a_training_whose_workers_are_killed_equals_one_that_was_left_alone_bit_for_bit(
    whole: Started, prepared: Started
) -> None:
    started, random = _copy(prepared, "workers"), Random(5)
    killed: list[int] = []

    def kill() -> None:
        for step in (EVERY, 4 * EVERY):
            wait_for_checkpoint(started.training, step)
            time.sleep(random.uniform(0, 0.5))
            killed.append(kill_a_worker())

    killer = threading.Thread(target=kill)
    killer.start()
    started.train()
    killer.join()
    assert len(set(killed)) == 2
    assert len(list((started.training / "tensorboard").iterdir())) == 3, "one start and two restarts"
    assert started.losses == whole.losses
    assert started.adapter == whole.adapter
    _agrees(started)


def test_a_training_whose_driver_is_killed_equals_one_that_was_left_alone_bit_for_bit(
    whole: Started, prepared: Started
) -> None:
    started = _copy(prepared, "driver")
    reached = started.kill_the_driver(2 * EVERY, Random(7).uniform(0, 0.5))
    assert reached < STEPS
    started.train()
    assert started.losses == whole.losses
    assert started.adapter == whole.adapter
    _agrees(started)


def test_a_training_goes_on_with_fewer_workers_and_with_more(whole: Started, prepared: Started) -> None:
    """Killed with two workers, then with one, ended with two; gradients are summed in another order, so losses agree to
    rounding."""
    started = _copy(prepared, "resized")
    first = started.kill_the_driver(2 * EVERY, 0.1, "train.num_workers=2")
    second = started.kill_the_driver(first + 2 * EVERY, 0.1, "train.num_workers=1")
    assert EVERY < first < second < STEPS
    started.train("train.num_workers=2")
    assert started.losses == pytest.approx(whole.losses, rel=1e-4)
    assert started.validation_loss == pytest.approx(whole.validation_loss, rel=1e-3)
    _agrees(started)


def test_an_uninterrupted_training_agrees_and_a_row_taken_out_of_its_log_is_found(
    whole: Started, prepared: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    _agrees(whole)
    assert not train_workers()
    started = _copy(whole, "tampered")
    (log,) = (started.training / "audit").iterdir()
    store, name = Store(str(log)), sorted(path.name for path in log.iterdir())[1]
    store.write_table(name, store.read_table(name).slice(1))
    with pytest.raises(SystemExit) as ended:
        main(["audit", started.run.root])
    assert ended.value.code == 1
    assert "train/paft-s0" in capsys.readouterr().out
