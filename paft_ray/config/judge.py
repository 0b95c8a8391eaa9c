"""Section `prompts.judge`."""

from __future__ import annotations

from pydantic import model_validator

from paft_ray.config.base import Section
from paft_ray.config.endpoint import EndpointConfig
from paft_ray.config.generator import GeneratorConfig

_LONGEST_ANSWER = 16


class JudgeConfig(Section):
    """The language model that says which task a candidate asks for. It decides only where its calibration allows it."""

    id: str
    """Hugging Face id, local folder or `demo`; with `endpoint` the model's name there."""
    revision: str | None = None
    """Commit or tag of a Hugging Face id."""
    endpoint: EndpointConfig | None = None
    """Asks the model there; its keys are those of a generator's `endpoint`. It gets candidates and descriptions of
    tasks."""

    @model_validator(mode="after")
    def _combinations(self) -> JudgeConfig:
        if self.endpoint is not None and self.revision is not None:
            raise ValueError("revision goes with models that run in the cluster; an endpoint names versions in `id`")
        return self

    @property
    def model(self) -> GeneratorConfig:
        """How the model is asked: for a letter, without sampling."""
        return GeneratorConfig(
            id=self.id, revision=self.revision, endpoint=self.endpoint, temperature=0.0, max_tokens=_LONGEST_ANSWER
        )

    @classmethod
    def of(cls, generator: GeneratorConfig) -> JudgeConfig:
        """A generator as the judge of what it wrote."""
        return cls(id=generator.id, revision=generator.revision, endpoint=generator.endpoint)
