"""Section `train.sampling`: which template an example is trained under."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from paft_ray.config.base import Positive, Section

Over = Literal["template", "cluster", "source"]


class _Policy(Section):
    over: Over | None = None
    """What is drawn first, each as likely as the others: a template, or a cluster of near-copies or a source (the
    user's templates, one generator) and then one of its templates. null: cluster where the prompt set holds generated
    templates, else template."""


class PerExampleConfig(_Policy):
    """A template is drawn for each example and epoch."""

    type: Literal["per_example"] = "per_example"
    """Names the policy."""


class EveryKConfig(_Policy):
    """One template is drawn for K examples in a row (paper, Algorithm 1)."""

    type: Literal["every_k"] = "every_k"
    """Names the policy."""
    k: Positive = 4
    """Examples in a row that share a template; with type `every_k`."""


def _typed(given: Any) -> Any:
    """`over` alone is of the default policy."""
    return {"type": "per_example", **given} if isinstance(given, dict) and set(given) == {"over"} else given


SamplingConfig = Annotated[PerExampleConfig | EveryKConfig, Field(discriminator="type"), BeforeValidator(_typed)]
"""One of the policies, distinguished by `type`."""


def sampling_key(sampling: SamplingConfig) -> dict[str, Any]:
    """The section as it stands in keys: without `over` where templates themselves are drawn, as in keys of versions
    that knew nothing else."""
    return sampling.model_dump(mode="json", exclude={"over"} if sampling.over in (None, "template") else None)
