"""The name of a training's checkpoints: another one wherever resuming would mix two results, and nowhere else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from paft_ray.config import ModelConfig, PerExampleConfig, TrainConfig, builtin
from paft_ray.models.local import find_model
from paft_ray.models.reference import ModelFiles, ModelReference
from paft_ray.prompts.prompt_set import Entry, PromptSet, read_templates
from paft_ray.storage import versions
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task
from paft_ray.training.best_step import LabelRows
from paft_ray.training.example_builder import Row
from paft_ray.training.fingerprint import fingerprint
from paft_ray.training.job import Training

TASK = load_task("demo")
PROMPTS = PromptSet.of(
    Entry(template=t) for t in read_templates(builtin("tasks", "data", "demo", "seed_templates.jsonl"))
)
ROWS = [{"id": f"e{i}", "fields": {"text": f"t{i}"}, "answer": "positive"} for i in range(4)]
MODEL = ModelFiles(reference=ModelReference(id="m", revision=None, identity={"files": {"a": "0"}}), path="/a")
INSTALLED = {"torch": "2.13.0+cpu", "deepspeed": "0.19.8", "peft": "0.21.0", "vllm": "0.31.0", "ray": "2.60.0"}


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Training:
    monkeypatch.setenv("PAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(versions, "versions", lambda: INSTALLED)
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
        {"config": TrainConfig(sampling=PerExampleConfig(over="source"))},
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
        {"config": TrainConfig(sampling=PerExampleConfig(over="template"))},
        {"templates": PromptSet(tuple(replace(entry, cluster=2) for entry in PROMPTS.entries))},
    ],
)
def test_chunks_resources_and_places_do_not(training: Training, change: dict[str, Any]) -> None:
    assert fingerprint(replace(training, **change)) == fingerprint(training)


def test_other_clusters_change_it_where_clusters_are_drawn(training: Training) -> None:
    drawn = replace(training, config=TrainConfig(sampling=PerExampleConfig(over="cluster")))
    other = PromptSet(tuple(replace(entry, cluster=i) for i, entry in enumerate(PROMPTS.entries)))
    assert fingerprint(replace(drawn, templates=other)) != fingerprint(drawn)


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


@pytest.mark.parametrize(
    ("library", "version", "resumes"),
    [
        ("torch", "2.14.0", False),
        ("deepspeed", "0.20.0", False),
        ("torch", "2.13.1", True),
        ("vllm", "0.32.0", True),
        ("ray", "3.0.0", True),
    ],
)
def test_a_training_resumes_under_patch_releases_and_not_under_other_libraries(
    training: Training, monkeypatch: pytest.MonkeyPatch, library: str, version: str, resumes: bool
) -> None:
    before = fingerprint(training)
    monkeypatch.setattr(versions, "versions", lambda: {**INSTALLED, library: version})
    assert (fingerprint(training) == before) == resumes


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "merges.txt", "generation_config.json"])
def test_a_training_does_not_resume_on_another_model(training: Training, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in ("config.json", "tokenizer.json"):
        (folder / file).write_text("{}")
    save_file({"a": np.zeros(2)}, folder / "model.safetensors")
    before = fingerprint(replace(training, model_files=find_model(str(folder), None)))
    if name == "model.safetensors":
        save_file({"a": np.ones(2)}, folder / name)
    else:
        (folder / name).write_text('{"other": 1}')
    assert fingerprint(replace(training, model_files=find_model(str(folder), None))) != before
