"""What the manifest of each stage says, and the trained models that it names. A run may be someone else's: what is read
is held to its type and range, and what a later version adds is ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from paft_ray.config import Positive, Seed, TrainedArm
from paft_ray.errors import UserError, one_line
from paft_ray.storage.outputs import (
    Digest,
    OutputPath,
    StageManifest,
    manifest_path,
    parse_manifest,
    read_raw_manifest,
    summed,
)
from paft_ray.storage.store import Store

PREPARE, SYNTHESIZE, SCORE, TRAIN, EVALUATE, REPORT, SWEEP = (
    "prepare",
    "synthesize",
    "score",
    "train",
    "evaluate",
    "report",
    "sweep",
)
"""Folder of each stage in a run."""
_Name = Annotated[str, Field(min_length=1, max_length=4096)]
_Count = Annotated[int, Field(ge=0)]
_Amount = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, order=True)
class ModelKey:
    """Names one model of a run: `paft-s0`; the base model is one, too."""

    arm: str
    seed: int
    BASE: ClassVar[ModelKey]

    def __str__(self) -> str:
        return f"{self.arm}-s{self.seed}"

    @classmethod
    def parse(cls, text: str) -> ModelKey:
        """The key that `str` wrote. Raises `ValueError`."""
        found = re.fullmatch(r"(.+)-s(-?\d{1,18})", text)
        if not found:
            raise ValueError(f"{text[:60]!r} names no model; ARM-sSEED is needed")
        return cls(found[1], int(found[2]))

    @property
    def label(self) -> str:
        """As it is shown."""
        return self.arm if self.seed == self.BASE.seed else f"{self.arm} (seed {self.seed})"


ModelKey.BASE = ModelKey("base", -1)


class Part(BaseModel):
    """A part of a manifest."""

    model_config = ConfigDict(strict=True, frozen=True, protected_namespaces=(), allow_inf_nan=False)


class TrainedFields(Part):
    """What every training says of itself: one of stage train, or a trial."""

    kind: Literal["adapter", "weights"]
    path: _Name
    """Folder of what was trained, relative to the run."""
    sha256: Digest
    """Over names and digests of `files`."""
    files: Annotated[dict[OutputPath, Digest], Field(min_length=1)]
    """Path relative to the folder -> SHA-256."""
    num_templates: Positive
    num_steps: Positive
    exported_step: Positive | None = None
    """Optimizer steps that the weights have; an earlier checkpoint's where `train.export` chose one."""
    tokens_per_s: _Amount | None = None
    train_time_s: _Amount | None = None
    peak_memory_gib: _Amount | None = None
    final_loss: float | None = None
    truncated_rows: _Count = 0


class ArmFields(TrainedFields):
    """One training of stage train."""

    arm: TrainedArm
    seed: Seed

    @property
    def key(self) -> ModelKey:
        """Its arm and seed."""
        return ModelKey(self.arm, self.seed)


class _Model(Part):
    id: _Name
    max_prompt_tokens: Positive
    identity: dict[str, Any]


class _Task(Part):
    name: str
    description: str
    kind: str | None = None
    labels: dict[str, str]
    max_answer_tokens: Positive


class _TrainKey(Part):
    train: dict[str, Any]
    model: _Model
    task: _Task
    prompts: dict[str, str]
    versions: dict[str, str]


class PrepareManifest(StageManifest):
    """Of stage prepare."""

    counts: dict[str, _Count] = Field(default_factory=dict)
    also_in_train: dict[str, _Count] = Field(default_factory=dict)


class CoverageFields(Part):
    """How different the training templates are, as `prompts.selection.Coverage` has it."""

    num_templates: _Count
    num_clusters: _Count
    mean_nearest: Fraction | None
    min_nearest: Fraction | None
    radius: Fraction | None


class SynthesizeManifest(StageManifest):
    """Of stage synthesize."""

    asked: _Count = 0
    kept: _Count = 0
    rejected: dict[str, _Count] = Field(default_factory=dict)
    sft_template: str | None = None
    grammar_share: Fraction | None = None
    engine_starts: _Count = 0
    coverage: CoverageFields | None = None


class ScoreManifest(StageManifest):
    """Of stage score."""

    best: str
    best_accuracy: Fraction | None = None
    best_probability: Fraction | None = None
    """That the best template is the best one."""
    num_tied: _Count = 0
    """Other templates with its accuracy."""
    num_templates: _Count = 0
    num_examples: _Count = 0
    engine_starts: _Count = 0


class TrainManifest(StageManifest):
    """Of stage train."""

    key: _TrainKey  # type: ignore[assignment]
    models: Annotated[tuple[ArmFields, ...], Field(min_length=1, strict=False)]
    peak_memory_gib: _Amount | None = None


class EvaluateManifest(StageManifest):
    """Of stage evaluate."""

    engine_starts: _Count = 0
    num_failed: _Count = 0
    num_truncated: _Count = 0
    num_kept: _Count = 0
    num_rows: _Count | None = None
    budget: Annotated[float, Field(gt=0, le=1)] = 1


class ReportManifest(StageManifest):
    """Of stage report."""

    verdict: str = ""


class TrialManifest(StageManifest, TrainedFields):
    """Of one trial of a sweep."""

    subset_seed: Annotated[int, Field(ge=0)]
    validation_loss: float | None = None


class SweepManifest(StageManifest):
    """Of a sweep."""

    failed: list[str] = Field(default_factory=list)
    """Names of the trials that failed."""


STAGE_MANIFESTS: Mapping[str, type[StageManifest]] = {
    PREPARE: PrepareManifest,
    SYNTHESIZE: SynthesizeManifest,
    SCORE: ScoreManifest,
    TRAIN: TrainManifest,
    EVALUATE: EvaluateManifest,
    REPORT: ReportManifest,
}
"""Folder of a stage -> its manifest, of those with entries of their own."""


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A trained model of a run: an arm and seed of stage train, or a trial of a sweep."""

    key: ModelKey
    kind: Literal["adapter", "weights"]
    path: str
    """Its folder, relative to the run."""
    sha256: str
    """Over all files of the folder but the card."""
    files: Mapping[str, str]
    """Path relative to the folder -> SHA-256."""
    num_templates: int
    num_steps: int
    exported_step: int | None = None
    run: str = ""
    """Name of the run."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What decided the weights: `train`, `model` and `task` settings, `prompts`, `versions`."""

    @classmethod
    def of(cls, run: Store, key: ModelKey, found: TrainedFields, settings: Mapping[str, Any]) -> TrainedModel:
        """The model that a manifest of this run states. Raises `UserError` for a path that leads out of the run."""
        return cls(
            key=key,
            kind=found.kind,
            path=run.inside(found.path),
            sha256=found.sha256,
            files=found.files,
            num_templates=found.num_templates,
            num_steps=found.num_steps,
            exported_step=found.exported_step,
            run=run.name,
            settings=settings,
        )

    @property
    def arm(self) -> str:
        return self.key.arm

    @property
    def seed(self) -> int:
        return self.key.seed

    @property
    def is_adapter(self) -> bool:
        return self.kind == "adapter"

    @property
    def name(self) -> str:
        """Unique among the models of a storage, and the name under which it is served."""
        return f"{self.run}-{self.key}"


def trained_models(run: Store) -> list[TrainedModel]:
    """Every model of stage train, in the order of training. Raises `UserError` where the stage is not finished or does
    not say what it trained, and for a path that leads out of the run."""
    raw = read_raw_manifest(run, TRAIN)
    manifest = parse_manifest(run, TRAIN, raw, TrainManifest)
    for found in manifest.models:
        if found.path != f"{TRAIN}/{found.key}/{found.kind}" or found.sha256 != summed(found.files):
            raise UserError(
                f"run {run.root}: {manifest_path(TRAIN)} does not name what was trained as arm {found.arm}, seed "
                f"{found.seed} ({one_line(found.path)[:200]}); delete it and run stage train again"
            )
    return [TrainedModel.of(run, found.key, found, raw["key"]) for found in manifest.models]
