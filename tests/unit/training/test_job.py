"""What driver and workers of a training share: it travels as a pickle and loads no library that computes."""

import pickle
import subprocess
import sys

import pytest

from paft_ray.config import TrackingConfig, TrainConfig
from paft_ray.models.reference import ModelFiles, ModelReference
from paft_ray.storage.store import Store
from paft_ray.tracking.tracker_run import TrackerRun
from paft_ray.training.best_step import LabelRows
from paft_ray.training.example_builder import Row
from paft_ray.training.job import TrainingJob

ROW = Row(
    position=0,
    epoch=0,
    weight=1.0,
    prompt_ids=[1, 2],
    answer_ids=[3],
    template="t",
    truncated_characters=0,
    example_id="e",
)


@pytest.mark.parametrize(
    ("modules", "libraries"),
    [
        ("job, fingerprint, result, lr_schedule, best_step", {"torch", "ray", "deepspeed", "peft"}),
        ("launch", {"deepspeed", "peft"}),
    ],
)
def test_the_driver_loads_no_library_that_trains(modules: str, libraries: set[str]) -> None:
    code = f"import sys; from paft_ray.training import {modules}; print({libraries} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout == "set()\n"


def test_a_job_survives_pickling(tmp_path: object) -> None:
    tracking = TrackingConfig(wandb="p")
    job = TrainingJob(
        config=TrainConfig(),
        model=ModelFiles(reference=ModelReference(id="org/model", revision=None, identity={}), path="m"),
        base_id="org/model",
        seed=1,
        num_steps=3,
        out=str(tmp_path),
        fingerprint="f" * 16,
        label="[train paft/seed1]",
        validation=(ROW,),
        labels=LabelRows(rows=(ROW,), right=(0,), num_templates=1, num_labels=1),
        tracker_run=TrackerRun.of(
            tracking, Store(str(tmp_path)), name="paft-s1", group="r", label="[]", params={"seed": 1}
        ),
    )
    assert pickle.loads(pickle.dumps(job)) == job  # noqa: S301
