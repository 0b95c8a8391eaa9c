"""Section `prompts.generators[]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from paft_ray.config.base import Positive, Section
from paft_ray.config.endpoint import EndpointConfig


class GeneratorConfig(Section):
    """What writes candidate templates: a language model in the cluster or behind an endpoint, or a grammar."""

    type: Literal["vllm", "openai", "grammar"] = "vllm"
    """`vllm`: a model in the cluster. `openai`: one behind `endpoint`, which implies this type. `grammar`: sentences
    composed without a model, which fill up what models leave missing of `num_candidates`."""
    id: str = "demo"
    """Hugging Face id, local folder or `demo`; with `endpoint` the model's name there."""
    revision: str | None = None
    """Commit or tag of a Hugging Face id."""
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 1.0
    """Sampling temperature."""
    max_tokens: Positive = 96
    """Longest answer in tokens."""
    endpoint: EndpointConfig | None = None
    """Asks the model there instead of starting an engine."""
    num_templates: Positive | None = None
    """With type `grammar`: templates to compose, instead of those that are missing."""

    @model_validator(mode="before")
    @classmethod
    def _implied_type(cls, values: Any) -> Any:
        """`type` follows from `endpoint` where it is not given."""
        if isinstance(values, Mapping) and "type" not in values and values.get("endpoint") is not None:
            return {**values, "type": "openai"}
        return values

    @model_validator(mode="after")
    def _combinations(self) -> GeneratorConfig:
        if self.endpoint is not None and self.type != "openai":
            raise ValueError(f"endpoint goes with type: openai, given {self.type}; take one of them away")
        if self.endpoint is None and self.type == "openai":
            raise ValueError("type: openai needs endpoint: {base_url: ...}")
        if self.type == "grammar" and (self.id != "demo" or self.revision is not None):
            raise ValueError("type: grammar asks no model; take id and revision away")
        if self.type != "grammar" and self.num_templates is not None:
            raise ValueError("num_templates goes with type: grammar; models share num_candidates")
        if self.endpoint is not None and self.revision is not None:
            raise ValueError("revision goes with models that run in the cluster; an endpoint names versions in `id`")
        return self

    @property
    def label(self) -> str:
        """Its name in a prompt set: the model's id, for an endpoint with the host; `grammar`."""
        if self.type == "grammar":
            return self.type
        return self.id if self.endpoint is None else f"{self.id} at {urlsplit(self.endpoint.base_url).netloc}"

    @property
    def longest_text(self) -> int:
        """Tokens that one answer can have."""
        asked = self.endpoint.request if self.endpoint else {}
        tokens = asked.get("max_completion_tokens") or asked.get("max_tokens") or self.max_tokens
        assert isinstance(tokens, int)  # of the configuration
        return tokens

    @property
    def longest_answer(self) -> int:
        """Tokens that one request can cost at most."""
        answers = (self.endpoint.request.get("n") if self.endpoint else None) or 1
        assert isinstance(answers, int)  # of the configuration
        return self.longest_text * answers

    def after(self, tokens: int) -> GeneratorConfig:
        """The generator with what is left of its token limit after so many tokens."""
        endpoint = self.endpoint
        if endpoint is None or endpoint.max_total_tokens is None:
            return self
        left = endpoint.model_copy(update={"max_total_tokens": endpoint.max_total_tokens - tokens})
        return self.model_copy(update={"endpoint": left})


_ASKING = {"api_key_env", "concurrency", "requests_per_minute", "max_retries", "timeout_s"}


def generator_key(generator: GeneratorConfig) -> dict[str, Any]:
    """The settings that decide what a generator writes; how an endpoint is asked is left out."""
    if generator.type == "grammar":
        return generator.model_dump(mode="json", include={"type", "num_templates"})
    key = generator.model_dump(mode="json", exclude={"type", "num_templates", "endpoint"})
    return (
        key
        if generator.endpoint is None
        else {**key, "endpoint": generator.endpoint.model_dump(mode="json", exclude=_ASKING)}
    )
