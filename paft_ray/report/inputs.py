"""What a report is made of: outcomes with their templates and examples, and what the stages' manifests say. Reads
artifacts only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from paft_ray.errors import UserError
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.storage.parquet import holds
from paft_ray.storage.schemas import EVALUATED, SCORES
from paft_ray.storage.stage_cache import Manifest
from paft_ray.storage.store import Store
from paft_ray.tasks.readers import examples_from_table, holds_examples
from paft_ray.tasks.task import Example

STAGES = ("data", "prompts", "score", "train", "evaluate")

_SHOWN_SCORES = pa.schema([SCORES.field("template_id"), SCORES.field("accuracy")])


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One evaluation of all arms."""

    outcomes: pa.Table
    """Rows of evaluate/outcomes.parquet: arm, seed, template_id, example_id, answer, predicted, parsed, correct,
    logprob."""
    templates: PromptSet
    """At least the templates that the outcomes name."""
    examples: Mapping[str, Example]
    """Example id -> example; ids that are absent are shown by id alone."""
    speed: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """`ARM-sSEED` -> tokens_per_answer, seconds_per_answer, under unconstrained generation; may be empty."""
    manifest: Manifest = field(default_factory=dict)
    """Manifest of the evaluation: time_s, engine_starts."""
    held_out: bool = False
    """The templates are the run's own held-out split, checked against near-copies; False: given by the user."""

    @classmethod
    def of(cls, run: Store) -> Measured:
        """The run's own evaluation. Raises `UserError` where it has not been made."""
        for path, stage in (("evaluate/outcomes.parquet", "evaluate"), ("prompts/prompt_set.parquet", "synthesize")):
            if not run.exists(path):
                raise UserError(
                    f"run {run.name}: {path} is missing, there is nothing to report; run stage {stage} first"
                )
        return cls(
            outcomes=run.read_table("evaluate/outcomes.parquet", holds(EVALUATED)),
            templates=PromptSet.from_table(run.read_table("prompts/prompt_set.parquet")),
            examples=_examples(run, "data/test.parquet"),
            speed=_json_or_empty(run, "evaluate/speed.json"),
            manifest=_json_or_empty(run, "evaluate/manifest.json"),
            held_out=True,
        )


@dataclass(frozen=True, kw_only=True)
class History:
    """What the finished stages left behind, besides outcomes."""

    manifests: Mapping[str, Manifest]
    """Stage -> manifest, of the stages that are finished."""
    losses: Mapping[str, tuple[tuple[float, float], ...]]
    """`ARM-sSEED` -> (optimizer step, training loss)."""
    validation_losses: Mapping[str, tuple[tuple[float, float], ...]]
    """`ARM-sSEED` -> (optimizer step, loss on validation rows under training templates); empty where training did not
    validate."""
    validation_accuracies: Mapping[str, tuple[tuple[float, float], ...]]
    """Likewise for the accuracy."""
    tokens: Mapping[str, int]
    """`ARM-sSEED` -> tokens that went through the model in training."""
    scores: Mapping[str, float]
    """Template id -> accuracy of the base model on validation rows (training templates)."""
    sweep: Mapping[str, Any]
    """The content of report/sweep.json; empty without a sweep."""

    @classmethod
    def of(cls, run: Store) -> History:
        """Everything that is there; absent artifacts leave empty places."""
        manifests = {stage: _json_or_empty(run, f"{stage}/manifest.json") for stage in STAGES}
        names = [f"{model['arm']}-s{model['seed']}" for model in manifests["train"].get("models", [])]
        if manifests["train"] and names:
            manifests["train"] = {**manifests["train"], "time_s": _train_time(manifests["train"])}
        metrics = {name: rows for name in names if (rows := _metrics(run, f"train/{name}/metrics.jsonl"))}
        scores = (
            run.read_table("score/scores.parquet", holds(_SHOWN_SCORES)).to_pylist()
            if run.exists("score/scores.parquet")
            else []
        )
        return cls(
            manifests={stage: manifest for stage, manifest in manifests.items() if manifest},
            losses=_curves(metrics, "loss"),
            validation_losses=_curves(metrics, "validation_loss"),
            validation_accuracies=_curves(metrics, "validation_accuracy"),
            tokens={name: sum(row.get("tokens", 0) for row in rows) for name, rows in metrics.items()},
            scores={row["template_id"]: row["accuracy"] for row in scores},
            sweep=_json_or_empty(run, "report/sweep.json"),
        )


def _train_time(manifest: Manifest) -> float:
    """Seconds of all arms: after an interruption the stage's own clock misses the steps of earlier attempts."""
    return max(sum(model.get("train_time_s", 0.0) for model in manifest["models"]), float(manifest.get("time_s", 0.0)))


def _metrics(run: Store, path: str) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl by optimizer step, the last one of a step that comes twice."""
    if not run.exists(path):
        return []
    rows = [json.loads(line) for line in run.read_bytes(path).decode().splitlines() if line.strip()]
    return [row for _, row in sorted({row["step"]: row for row in rows if row.get("step") is not None}.items())]


def _curves(metrics: Mapping[str, list[dict[str, Any]]], key: str) -> dict[str, tuple[tuple[float, float], ...]]:
    found = {
        name: tuple((float(row["step"]), float(row[key])) for row in rows if row.get(key) is not None)
        for name, rows in metrics.items()
    }
    return {name: points for name, points in found.items() if points}


def _examples(run: Store, path: str) -> dict[str, Example]:
    return (
        {example.id: example for example in examples_from_table(run.read_table(path, holds_examples))}
        if run.exists(path)
        else {}
    )


def _json_or_empty(run: Store, path: str) -> dict[str, Any]:
    found = run.read_json(path) if run.exists(path) else {}
    if not isinstance(found, dict):
        raise UserError(
            f"{run.uri(path)}: an object is needed, found {type(found).__name__}; delete it and run its stage again"
        )
    return found
