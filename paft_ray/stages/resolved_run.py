"""A run with everything that its configuration names found once: task, directory, model files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from paft_ray.config import Config, GeneratorConfig, input_key
from paft_ray.models.chat_frame import chat_frame
from paft_ray.models.local import ModelFiles, find_model
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Task, load_task


@dataclass(frozen=True, kw_only=True)
class ResolvedRun:
    """What every stage takes. Picklable."""

    config: Config
    task: Task
    store: Store
    """The run's directory."""
    models: tuple[ModelFiles, ...] = ()
    """The model that is trained, then the generators that run on the cluster, in their order; empty for a stage that
    reads none."""

    @classmethod
    def of(cls, config: Config, store: Store | None = None) -> ResolvedRun:
        """The run of a configuration, its models not found yet; neither a hub nor a cluster is reached, nothing is
        written. Raises `UserError` for a task or storage that cannot be used.

        `store`: the run's directory; default: the one that the configuration names.
        """
        task = load_task(config.task)
        return cls(config=config, task=task, store=store or Store(config.storage).below(config.name))

    def with_models(self) -> ResolvedRun:
        """The same run with the files of its models found on this machine, downloaded where they are missing. Raises
        `UserError` as `resolve_model`."""
        return replace(self, models=tuple(find_model(*model) for model in self.config.models))

    @property
    def model(self) -> ModelFiles:
        """The model that is scored, trained and evaluated."""
        assert self.models, "the models of this run were not resolved"
        return self.models[0]

    @property
    def model_key(self) -> dict[str, Any]:
        """Section `model` with the identity of the model's files and, for chat input, what its chat template writes
        around the contents: the part of a stage's key that says which model it was."""
        settings = self.config.model
        frame = {"chat_frame": chat_frame(self.model, settings.chat_template_kwargs)} if settings.chat else {}
        return {**input_key(settings), "identity": dict(self.model.identity), **frame}

    @property
    def task_key(self) -> dict[str, Any]:
        """The part of a stage's key that says which task it was."""
        return self.task.model_dump(mode="json")

    def generator_model(self, generator: GeneratorConfig) -> ModelFiles:
        """The files of a generator that runs on the cluster."""
        assert self.models, "the models of this run were not resolved"
        return self.models[1 + self.config.prompts.local_generators.index(generator)]
