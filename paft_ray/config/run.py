"""The complete configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from paft_ray.config.addresses import Host, refusal
from paft_ray.config.base import Place, Section, Seed
from paft_ray.config.data import DataConfig
from paft_ray.config.engine import EngineConfig
from paft_ray.config.evaluate import EvaluateConfig
from paft_ray.config.model import ModelConfig
from paft_ray.config.plugins import Plugin
from paft_ray.config.prompts import PromptsConfig
from paft_ray.config.report import ReportConfig
from paft_ray.config.score import ScoreConfig
from paft_ray.config.sweep import SweepConfig
from paft_ray.config.tracking import TrackingConfig
from paft_ray.config.train import TrainConfig


class Config(Section):
    """All settings of a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """Name of the run: letters, digits, `.`, `_`, `-`."""
    storage: str = "runs"
    """Folder or URI (file, s3, gs) that holds runs; several nodes need object storage or a folder that all share."""
    seed: Seed = 0
    """Seed of the choice of rows, of synthesis and of the split."""
    task: Place
    """Built-in task name or path of a task YAML."""
    plugins: tuple[Plugin, ...] = ()
    """Python files of your own graders (docs/extending.md), run on every node; `#sha256=HEX` behind a path allows this
    content alone."""
    insecure_hosts: tuple[Host, ...] = ()
    """Hosts of endpoints and trackers that may get a key over plain http, or have a link-local address. The loopback
    needs no entry for http."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    prompts: PromptsConfig = PromptsConfig()
    engine: EngineConfig = EngineConfig()
    score: ScoreConfig = ScoreConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()
    sweep: SweepConfig = SweepConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def models(self) -> tuple[tuple[str, str | None], ...]:
        """(id, revision) of every model that the cluster reads: the one that is trained, then the generators and the
        judge that run there."""
        return (self.model.id, self.model.revision), *((each.id, each.revision) for each in self.prompts.local_models)

    @model_validator(mode="after")
    def _combinations(self) -> Config:
        if "top_accuracy" in self.train.arms and not self.score.enabled:
            raise ValueError("arm top_accuracy needs score.enabled=true (or leave it out of train.arms)")
        space = self.sweep.space
        if space.lora_rank and self.train.lora is None:
            raise ValueError("sweep.space.lora_rank needs train.lora, which is null")
        return self

    @model_validator(mode="after")
    def _addresses(self) -> Config:
        asked = [
            (f"prompts.generators.{i}.endpoint.base_url", g.endpoint) for i, g in enumerate(self.prompts.generators)
        ]
        if self.prompts.judge is not None:
            asked.append(("prompts.judge.endpoint.base_url", self.prompts.judge.endpoint))
        urls = [(name, endpoint.base_url, endpoint.api_key_env is not None) for name, endpoint in asked if endpoint]
        if self.tracking.mlflow is not None:
            urls.append(("tracking.mlflow", self.tracking.mlflow, False))  # whether it gets a key, the environment says
        for name, url, keyed in urls:
            if reason := refusal(url, keyed=keyed, allowed=self.insecure_hosts):
                raise ValueError(f"{name}: {reason}")
        return self
