"""The fingerprint of a training changes with all that decides its weights, and with nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from paft_ray.config import ModelConfig, TrainConfig, builtin
from paft_ray.models.reference import ModelFiles, ModelReference
from paft_ray.prompts.prompt_set import Entry, PromptSet, read_templates
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task
from paft_ray.training.checkpoint_selection import LabelRows
from paft_ray.training.example_builder import Row
from paft_ray.training.fingerprint import fingerprint
from paft_ray.training.job import Training

TASK = load_task("demo")
PROMPTS = PromptSet.of(
    Entry(template=t) for t in read_templates(builtin("tasks", "data", "demo", "seed_templates.jsonl"))
)
ROWS = [{"id": f"e{i}", "fields": {"text": f"t{i}"}, "answer": "positive"} for i in range(4)]
MODEL = ModelFiles(reference=ModelReference(id="m", revision=None, identity={"files": {"a": "0"}}), path="/a")


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(
        task=TASK,
        data=pa.Table.from_pylist(ROWS),
        templates=PROMPTS,
        config=TrainConfig(),
        model=ModelConfig(),
        model_files=MODEL,
        seed=0,
        run=Store(str(tmp_path)),
        folder="train/paft-s0",
        results_version=1,
    )


@pytest.mark.parametrize(
    "change",
    [
        {"data": pa.Table.from_pylist(ROWS[:3])},
        {"data": pa.Table.from_pylist(ROWS[::-1])},
        {"templates": PROMPTS.take(3, seed=0)},
        {"config": TrainConfig(learning_rate=1e-5)},
        {"config": TrainConfig(precision="fp32" if TrainConfig().precision != "fp32" else "bf16")},
        {"model": ModelConfig(max_prompt_tokens=99)},
        {"model_files": replace(MODEL, reference=replace(MODEL.reference, identity={"files": {"a": "1"}}))},
        {"seed": 1},
        {"task": TASK.model_copy(update={"name": "other"})},
        {"results_version": 2},
    ],
)
def test_what_decides_the_weights_changes_it(training: Training, change: dict[str, Any]) -> None:
    assert fingerprint(replace(training, **change)) != fingerprint(training)


@pytest.mark.parametrize(
    "change",
    [
        {"data": pa.concat_tables([pa.Table.from_pylist(ROWS[:1]), pa.Table.from_pylist(ROWS[1:])])},
        {"config": TrainConfig(num_workers=2, zero_stage=3, checkpoint_every=1)},
        {"model_files": replace(MODEL, path="/elsewhere")},
        {"folder": "sweep/size3"},
    ],
)
def test_chunks_resources_and_places_do_not(training: Training, change: dict[str, Any]) -> None:
    assert fingerprint(replace(training, **change)) == fingerprint(training)


def test_rows_that_choose_the_checkpoint_change_it(training: Training) -> None:
    row = Row(
        position=0,
        epoch=0,
        weight=1.0,
        prompt_ids=[1],
        answer_ids=[2],
        template="t",
        truncated_characters=0,
        example_id="e",
    )
    labels = [
        LabelRows(rows=(one,), right=(0,), num_templates=1, num_labels=1) for one in (row, {**row, "answer_ids": [3]})
    ]
    assert len({fingerprint(training, one) for one in (None, *labels)}) == 3
