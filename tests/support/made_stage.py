"""Stages of made-up runs, finished as the package finishes them: each manifest names its outputs with their digests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from paft_ray.config import Config, input_key, weights_key
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.storage.artifacts import (
    OUTCOMES,
    PROMPT_SET,
    ROWS,
    SPEED,
    SplitName,
    metrics_path,
    training_metrics,
    training_result,
)
from paft_ray.storage.manifests import EVALUATE, PREPARE, SYNTHESIZE, TRAIN, ModelKey, TrainedModel
from paft_ray.storage.outputs import digests, manifest_path, summed
from paft_ray.storage.stage_cache import Manifest, finish
from paft_ray.storage.store import Store
from paft_ray.tasks.readers import examples_to_table
from paft_ray.tasks.task import Example, load_task

FINGERPRINT = "0123456789abcdef"


def files_below(run: Store, folder: str) -> list[str]:
    """Paths of all files in a folder of the run, however deep, sorted."""
    found = []
    for entry in run.entries(folder):
        path = f"{folder}/{entry.base_name}"
        found += files_below(run, path) if entry.type == pafs.FileType.Directory else [path]
    return sorted(found)


def sums_below(run: Store, folder: str) -> dict[str, str]:
    """Path relative to a folder of the run -> SHA-256, of every file in it, however deep."""
    return {path.removeprefix(f"{folder}/"): sha for path, sha in digests(run, files_below(run, folder)).items()}


def finish_stage(run: Store, folder: str, outputs: Mapping[str, str], *, key: Any = None, **manifest: Any) -> Manifest:
    """The manifest of a stage, after writing it. `key`: as it is, without versions of this machine."""
    time_s = manifest.pop("time_s", 1.0)
    made = finish(run, folder, {}, {**manifest, "outputs": dict(outputs)}, time_s=time_s, announce=lambda _: None)
    if key is not None:
        run.write_json(manifest_path(folder), {**made, "key": key})
    return made


def prepared(run: Store, rows: Mapping[SplitName, Sequence[Example]], **manifest: Any) -> None:
    """Stage prepare, with rows of some of the splits."""
    outputs: dict[str, str] = {}
    for split, examples in rows.items():
        outputs |= ROWS[split].write(run, examples_to_table(examples, examples[0].fields))
    finish_stage(run, PREPARE, outputs, counts={split: len(examples) for split, examples in rows.items()}, **manifest)


def synthesized(run: Store, prompts: PromptSet, **manifest: Any) -> None:
    """Stage synthesize."""
    finish_stage(run, SYNTHESIZE, PROMPT_SET.write(run, prompts), **manifest)


def evaluated(
    run: Store, outcomes: pa.Table, speed: Mapping[ModelKey, Mapping[str, float]] | None = None, **manifest: Any
) -> None:
    """Stage evaluate."""
    outputs = OUTCOMES.write(run, outcomes) | SPEED.write(run, dict(speed or {}))
    finish_stage(run, EVALUATE, outputs, **{"engine_starts": 0, **manifest})


def trained_arm(
    run: Store,
    model: ModelKey,
    *,
    kind: str = "adapter",
    files: Mapping[str, bytes] | None = None,
    metrics: Sequence[Mapping[str, Any]] = ({"step": 1, "loss": 1.0, "tokens": 10},),
    key: Any = None,
    **fields: Any,
) -> Manifest:
    """One training of stage train, with its weights and metrics: its manifest."""
    folder = f"{TRAIN}/{model}"
    path = f"{folder}/{kind}"
    for name, content in (files or {"adapter_model.safetensors": str(model).encode()}).items():
        run.write_bytes(f"{path}/{name}", content)
    training_metrics(model).write(run, list(metrics))  # type: ignore[arg-type]
    result = training_result(folder).write(run, {"fingerprint": FINGERPRINT})
    outputs = digests(run, [*files_below(run, path), metrics_path(folder)]) | result
    known = {name.removeprefix(f"{path}/"): sha for name, sha in outputs.items() if name.startswith(f"{path}/")}
    return finish_stage(
        run,
        folder,
        outputs,
        key=key,
        **{
            "arm": model.arm,
            "seed": model.seed,
            "kind": kind,
            "path": path,
            "sha256": summed(known),
            "files": known,
            "num_templates": 1,
            "num_steps": 1,
            **fields,
        },
    )


def trained_model(run: Store, folder: str, kind: str = "weights") -> TrainedModel:
    """Arm paft, seed 0, with the files that lie in this folder of the run."""
    files = sums_below(run, folder)
    return TrainedModel(
        key=ModelKey("paft", 0),
        kind=kind,  # type: ignore[arg-type]
        path=folder,
        sha256=summed(files),
        files=files,
        num_templates=1,
        num_steps=1,
    )


def train_key(settings: Config) -> dict[str, Any]:
    """The key of a training with these settings, as stage train writes it."""
    return {
        "train": weights_key(settings.train),
        "model": {**input_key(settings.model), "identity": {}},
        "task": load_task(settings.task).model_dump(mode="json"),
        "prompts": {},
        "versions": {"ray": "0.0"},
    }


def trained(run: Store, models: Sequence[Manifest], *, key: Any, **manifest: Any) -> None:
    """Stage train of these arms."""
    outputs = {path: sha for model in models for path, sha in model["outputs"].items()}
    finish_stage(run, TRAIN, outputs, key=key, models=list(models), **manifest)
