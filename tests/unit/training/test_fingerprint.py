"""The name of a training's checkpoints: another one wherever resuming would mix two results."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from paft_ray.config import ModelConfig, TrainConfig
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.storage import versions
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task
from paft_ray.training.fingerprint import fingerprint
from paft_ray.training.job import Training

INSTALLED = {"torch": "2.13.0+cpu", "deepspeed": "0.19.8", "peft": "0.21.0", "vllm": "0.31.0", "ray": "2.60.0"}


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Training:
    monkeypatch.setenv("PAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(versions, "versions", lambda: INSTALLED)
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (model / name).write_text("{}")
    return Training(
        task=load_task("demo"),
        data=pa.table({"id": ["a"], "answer": ["positive"]}),
        templates=PromptSet.of([Entry(template=PromptTemplate(text="Review: {text}"), provenance={})]),
        config=TrainConfig(),
        model=ModelConfig(id=str(model)),
        model_path=str(model),
        seed=0,
        run=Store(str(tmp_path / "run")),
        folder="train/paft-s0",
    )


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


def test_a_training_does_not_resume_with_code_of_other_results(training: Training) -> None:
    assert fingerprint(replace(training, results_version=2)) != fingerprint(training)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "merges.txt", "generation_config.json"])
def test_a_training_does_not_resume_on_another_model(training: Training, name: str) -> None:
    before = fingerprint(training)
    (Path(training.model_path) / name).write_text('{"other": 1}')
    assert fingerprint(training) != before
