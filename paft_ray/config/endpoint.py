"""Section `prompts.generators[].endpoint`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, model_validator

from paft_ray.config.addresses import split_url
from paft_ray.config.base import Options, Positive, Section

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_OURS = ("model", "messages", "stream")
_COUNTS = ("max_tokens", "max_completion_tokens", "n")


class EndpointConfig(Section):
    """An OpenAI-compatible endpoint that serves a generator. It gets the task's description and seed templates; rows
    only with `prompts.num_shared_examples`."""

    base_url: str
    """Where it is, e.g. `https://api.example.com/v1`, without user, password or query. Redirects are not followed. With
    a key: https, or this machine."""
    api_key_env: str | None = None
    """NAME of the environment variable that holds its key, read on the driver's node; never the key itself."""
    request: Options = Field(default_factory=dict)
    """Further fields of every request, as they are; null leaves out one that is sent otherwise (`max_tokens`,
    `temperature`, `seed`)."""
    grammar: bool = False
    """Send the grammar of placeholders too, which vLLM's servers understand; otherwise the gate alone filters."""
    concurrency: Positive = 8
    """Requests under way at once."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Rate limit, retries included; requests are spaced evenly. Null: none."""
    max_retries: Annotated[int, Field(ge=0)] = 5
    """Retries of a request after HTTP 408, 409, 429 (as `Retry-After` says), 5xx, a lost connection or a timeout."""
    timeout_s: Positive = 120
    """Longest wait for one answer in seconds, from its request to its last byte."""
    max_total_tokens: Positive | None = None
    """Generated tokens in one run at most, as the endpoint counts them (an answer that does not come counts as
    `max_tokens`); null: no limit."""

    @model_validator(mode="after")
    def _not_ours(self) -> EndpointConfig:
        """What is sent, and to which model, is what the plan says."""
        if found := sorted(set(_OURS) & set(self.request)):
            raise ValueError(
                f"request.{found[0]}: paft decides it (the generator's id, its requests, complete answers); remove it"
            )
        return self

    @model_validator(mode="after")
    def _counts(self) -> EndpointConfig:
        """They decide how much an answer can cost."""
        for name in _COUNTS:
            count = self.request.get(name)
            if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 0 < count < 2**31):
                raise ValueError(f"request.{name}: an integer above 0 is needed, given {count!r}")
        return self

    @model_validator(mode="after")
    def _no_secrets(self) -> EndpointConfig:
        """The messages name what is wrong and never show it: it may be a key."""
        url = split_url(self.base_url, "base_url")
        if (
            url.scheme not in ("http", "https")
            or not url.hostname
            or "@" in url.netloc
            or set("?#") & set(self.base_url)
        ):
            raise ValueError(
                "base_url: an http(s) URL without user, password, query or fragment is needed; the key comes "
                "from the environment"
            )
        if self.api_key_env is not None and not VARIABLE.fullmatch(self.api_key_env):
            raise ValueError(
                "api_key_env: the NAME of an environment variable is needed (capitals, digits, _), never the key itself"
            )
        return self
