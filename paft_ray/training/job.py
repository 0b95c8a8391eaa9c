"""What a training is of, what each of its workers gets, and who a worker is. Imports neither torch nor Ray nor
DeepSpeed, so that driver and workers share it."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from paft_ray.config import ModelConfig, TrackingConfig, TrainConfig
from paft_ray.models.reference import ModelFiles
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Task
from paft_ray.tracking.tracker_run import TrackerRun
from paft_ray.training.best_step import LabelRows
from paft_ray.training.data_order import plan
from paft_ray.training.example_builder import Row

FOLDERS = "paft-training"
"""Kind of the temporary folders of a training on its nodes, which its folder in the run owns."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one training is of, and where its files go: what a stage asks of `launch.fit`."""

    task: Task
    data: pa.Table
    """Columns id, fields, answer."""
    templates: PromptSet
    config: TrainConfig
    model: ModelConfig
    model_files: ModelFiles
    """Where the driver found them."""
    seed: int
    run: Store
    folder: str
    """Of the run, gets adapter/ (or weights/), metrics.jsonl, tensorboard/, checkpoints/."""
    validation: pa.Table | None = None
    """Rows of the periodic validation."""
    validation_templates: PromptSet | None = None
    """Default: the training templates."""
    tracking: TrackingConfig | None = None
    results_version: int = 1
    """Of the stage that asks: checkpoints made by code of other results are not resumed."""

    @property
    def out(self) -> Store:
        """Its folder as a store of its own."""
        return self.run.below(self.folder)

    @property
    def plan(self) -> tuple[int, int]:
        """(optimizer steps, positions that carry loss)."""
        config = self.config
        return plan(
            self.data.num_rows, epochs=config.num_epochs, steps=config.num_steps, global_batch=config.global_batch
        )


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What the workers do for one training, the same on every worker and after every restart. Picklable."""

    config: TrainConfig
    model: ModelFiles
    """Where the driver found them; each worker finds them on its own node."""
    seed: int
    num_steps: int
    """Optimizer steps from the first to the last, those before a restart included."""
    out: str
    """Folder or URI of this training's files."""
    fingerprint: str
    """Hash of all that decides the weights; checkpoints of another fingerprint are never resumed."""
    label: str
    """Opens every console line, e.g. `[train paft/seed0]`."""
    base_id: str | None = None
    """Hub id of the base model, which the adapter names; None: a folder."""
    validation: tuple[Row, ...] = ()
    """Rows of the periodic validation."""
    labels: LabelRows | None = None
    """Rows of the validation with every checkpoint, where the best one is exported."""
    tracker_run: TrackerRun | None = None
    """Run of the trackers, where the configuration asks for one."""

    @property
    def model_path(self) -> str:
        """Folder of the model."""
        return self.model.path

    @property
    def store(self) -> Store:
        """Where its checkpoints are."""
        return Store(self.out).below(f"checkpoints/{self.fingerprint}")


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One process of the worker group."""

    rank: int
    world_size: int
