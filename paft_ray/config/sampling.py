"""Section `train.sampling`: which template an example is trained under."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from paft_ray.config.base import Positive, Section


class PerExampleConfig(Section):
    """A template is drawn for each example and epoch."""

    type: Literal["per_example"] = "per_example"
    """Names the policy."""


class EveryKConfig(Section):
    """One template is drawn for K examples in a row (paper, Algorithm 1)."""

    type: Literal["every_k"] = "every_k"
    """Names the policy."""
    k: Positive = 4
    """Examples in a row that share a template; with type `every_k`."""


SamplingConfig = Annotated[PerExampleConfig | EveryKConfig, Field(discriminator="type")]
"""One of the policies, distinguished by `type`."""
