"""What a report is made of: outcomes with their templates and examples, and what the stages' manifests say. Reads
artifacts only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from paft_ray.errors import UserError
from paft_ray.metrics import ArmOutcomes, Measure, arms_from_table
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.storage.artifacts import (
    GENERATED,
    OUTCOMES,
    PROMPT_SET,
    ROWS,
    SCORE_TABLE,
    SPEED,
    SWEEP_RESULT,
    MetricsRow,
    Speed,
    stage_manifest,
    training_metrics,
)
from paft_ray.storage.manifests import (
    EVALUATE,
    SCORE,
    SYNTHESIZE,
    TRAIN,
    ArmFields,
    ModelKey,
    TrainManifest,
    trained_models,
)
from paft_ray.storage.outputs import manifest_path, read_manifest
from paft_ray.storage.quality import QUALITY, Quality
from paft_ray.storage.stage_cache import Manifest
from paft_ray.storage.store import Store
from paft_ray.tasks.readers import examples_from_table
from paft_ray.tasks.task import Example

Curves = Mapping[ModelKey, tuple[tuple[float, float], ...]]
"""Key of a model -> (optimizer step, value)."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One evaluation of all arms."""

    outcomes: pa.Table
    """Rows of evaluate/outcomes.parquet."""
    templates: PromptSet
    """At least the templates that the outcomes name."""
    examples: Mapping[str, Example]
    """Example id -> example; ids that are absent are shown by id alone."""
    speed: Speed = field(default_factory=dict)
    """Tokens and seconds per answer of each model, under unconstrained generation; may be empty."""
    manifest: Manifest = field(default_factory=dict)
    """Manifest of the evaluation: time_s, engine_starts."""
    texts: pa.Table | None = None
    """Rows of evaluate/answers.parquet, what was generated for a task without labels; None: not at hand."""
    labels: Sequence[str] = ()
    """Of the task, in the order of `label_logprobs`; none: nothing is calibrated."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Arm -> what it is, where no run made the arms."""
    held_out: bool = False
    """The templates are the run's own held-out split, checked against near-copies; False: given by the user."""

    @cached_property
    def by_measure(self) -> Mapping[Measure, Mapping[str, ArmOutcomes]]:
        """As `arms_by_measure`. Raises `UserError` for rows that form no grid, and for those of an earlier version."""
        return arms_by_measure(self.outcomes)

    @property
    def headline(self) -> Measure:
        """behavior, or knowledge where no unconstrained answers were asked for."""
        return next(iter(self.by_measure))

    @property
    def arms(self) -> Mapping[str, ArmOutcomes]:
        """Arm -> its answers by the headline measure."""
        return self.by_measure[self.headline]

    @cached_property
    def has_labels(self) -> bool:
        """The task has labels, so there is a choice constrained to them."""
        return _has_values(self.outcomes, "label_logprobs")

    @property
    def groups(self) -> Mapping[str, str]:
        """Template id -> the group that its file gave it; templates without one are left out."""
        given = {entry.template.id: entry.provenance.get("group") for entry in self.templates.entries}
        return {template: str(group) for template, group in given.items() if group}

    @classmethod
    def of(cls, run: Store, labels: Sequence[str] = ()) -> Measured:
        """The run's own evaluation. Raises `UserError` where it has not been made or is damaged."""
        return cls(
            outcomes=OUTCOMES.read(run),
            templates=PROMPT_SET.read(run),
            examples=_examples(run),
            speed=SPEED.read(run),
            manifest=stage_manifest(run, EVALUATE),
            texts=GENERATED.read(run) if run.exists(GENERATED.path) else None,
            labels=labels,
            held_out=True,
        )


@dataclass(frozen=True, kw_only=True)
class History:
    """What the finished stages left behind, besides outcomes."""

    manifests: Mapping[str, Manifest]
    """Stage -> manifest, of the stages that are finished, in their order."""
    trainings: Sequence[ArmFields]
    """What each training of stage train says of itself."""
    losses: Curves
    """Training losses."""
    validation_losses: Curves
    """Losses on validation rows under training templates; empty where training did not validate."""
    validation_accuracies: Curves
    """Likewise for the accuracy."""
    tokens: Mapping[ModelKey, int]
    """Tokens that went through the model in training."""
    scores: Mapping[str, float]
    """Template id -> accuracy of the base model on validation rows (training templates)."""
    sweep: Mapping[str, Any]
    """The content of report/sweep.json; empty without a sweep."""
    quality: Quality | None
    """What was found of the candidates; None where no generator wrote any."""

    @classmethod
    def of(cls, run: Store, stages: Sequence[str]) -> History:
        """What the finished ones of `stages` left; of the others the places stay empty. Raises `UserError` for what is
        damaged."""
        manifests = {stage: manifest for stage in stages if (manifest := stage_manifest(run, stage))}
        trainings = read_manifest(run, TRAIN, TrainManifest).models if TRAIN in manifests else ()
        if trainings:
            manifests[TRAIN] = {**manifests[TRAIN], "time_s": _train_time(trainings, manifests[TRAIN])}
        metrics = {model.key: training_metrics(model.key).read(run) for model in trainings}
        scores = SCORE_TABLE.read(run).to_pylist() if SCORE in manifests else []
        return cls(
            manifests=manifests,
            trainings=trainings,
            losses=_curves(metrics, "loss"),
            validation_losses=_curves(metrics, "validation_loss"),
            validation_accuracies=_curves(metrics, "validation_accuracy"),
            tokens={key: round(sum(row.tokens for row in rows)) for key, rows in metrics.items()},
            scores={row["template_id"]: row["accuracy"] for row in scores},
            sweep=SWEEP_RESULT.read(run) if SWEEP_RESULT.is_made(run) else {},
            quality=QUALITY.read(run) if SYNTHESIZE in manifests and run.exists(QUALITY.path) else None,
        )


def check_current(run: Store) -> None:
    """Raises `UserError` where the run's evaluation is one of other weights, templates or rows than the run holds now:
    its figures would stand under a name that is not theirs."""
    key = stage_manifest(run, EVALUATE).get("key", {})
    now: dict[str, tuple[str, Any]] = {}
    if run.exists(manifest_path(TRAIN)):
        now["models"] = TRAIN, {str(model.key): model.sha256 for model in trained_models(run)}
    for name, artifact in (("prompts", PROMPT_SET), ("data", ROWS["test"])):
        if artifact.is_made(run):
            now[name] = artifact.stage, artifact.key(run)
    for name, (stage, value) in now.items():
        if key.get(name, value) != value:
            raise UserError(
                f"run {run.root}: {manifest_path(EVALUATE)} is of other {name} than {manifest_path(stage)} names now; "
                "run stage evaluate again with --force"
            )


def arms_by_measure(outcomes: pa.Table) -> dict[Measure, dict[str, ArmOutcomes]]:
    """Measure -> arm -> answers, the headline first: behavior, strict, and knowledge of the arms whose choice among the
    labels was measured; knowledge alone where no unconstrained answers were asked for."""
    if not _has_values(outcomes, "behavior"):
        return {"knowledge": arms_from_table(outcomes, "knowledge")}
    said: list[Measure] = ["behavior", "strict"]
    found: dict[Measure, dict[str, ArmOutcomes]] = {name: arms_from_table(outcomes, name) for name in said}
    if _has_values(outcomes, "label_logprobs"):
        chosen = pc.unique(outcomes.filter(pc.is_valid(outcomes["label_logprobs"]))["arm"])
        found["knowledge"] = arms_from_table(outcomes.filter(pc.is_in(outcomes["arm"], chosen)), "knowledge")
    return found


def _has_values(outcomes: pa.Table, column: str) -> bool:
    """Some row has a value in a column. Raises `UserError` for a table of an earlier version, which lacks it."""
    if column not in outcomes.column_names:
        raise UserError(f"the outcomes lack column {column}, as those of earlier versions do; run stage evaluate again")
    return bool(outcomes[column].null_count < outcomes.num_rows)


def _examples(run: Store) -> dict[str, Example]:
    test = ROWS["test"]
    return {example.id: example for example in examples_from_table(test.read(run))} if test.is_made(run) else {}


def _train_time(trainings: Sequence[ArmFields], manifest: Manifest) -> float:
    """Seconds of all arms: after an interruption the stage's own clock misses the steps of earlier attempts."""
    return max(sum(model.train_time_s or 0.0 for model in trainings), float(manifest["time_s"]))


def _curves(metrics: Mapping[ModelKey, list[MetricsRow]], name: str) -> Curves:
    found = {
        key: tuple((float(row.step or 0), float(value)) for row in rows if (value := getattr(row, name)) is not None)
        for key, rows in metrics.items()
    }
    return {key: points for key, points in found.items() if points}
