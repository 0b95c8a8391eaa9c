"""Sections `prompts` and `score`: where templates come from and how they are chosen."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from paft_ray.config.addresses import split_url
from paft_ray.config.base import Fraction, Options, Place, Positive, Section

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_OURS = ("model", "messages", "stream")
_COUNTS = ("max_tokens", "max_completion_tokens", "n")


class EndpointConfig(Section):
    """An OpenAI-compatible endpoint that serves a generator. It gets the task's description and seed templates; rows
    only with `prompts.share_examples`."""

    base_url: str
    """Where it is, e.g. `https://api.example.com/v1`, without user, password or query. Redirects are not followed. With
    a key: https, or this machine."""
    api_key_env: str | None = None
    """NAME of the environment variable that holds its key, read on the driver's node; never the key itself."""
    request: Options = {}
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
                f"request.{found[0]}: paft decides it (the generator's id, its requests, whole answers); take it out"
            )
        return self

    @model_validator(mode="after")
    def _counts(self) -> EndpointConfig:
        """They decide how much an answer can cost."""
        for name in _COUNTS:
            count = self.request.get(name)
            if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 0 < count < 2**31):
                raise ValueError(f"request.{name}: a whole number above 0 is needed, given {count!r}")
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


class GeneratorConfig(Section):
    """One language model that writes candidate templates: vLLM in the cluster, or an endpoint."""

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

    @model_validator(mode="after")
    def _combinations(self) -> GeneratorConfig:
        if self.endpoint is not None and self.revision is not None:
            raise ValueError("revision goes with models that run in the cluster; an endpoint names versions in `id`")
        return self

    @property
    def label(self) -> str:
        """Its name in a prompt set: the id, for an endpoint with the host."""
        return self.id if self.endpoint is None else f"{self.id} at {urlsplit(self.endpoint.base_url).netloc}"

    @property
    def longest_answer(self) -> int:
        """Tokens that one request can cost at most."""
        asked = self.endpoint.request if self.endpoint else {}
        each = asked.get("max_completion_tokens") or asked.get("max_tokens") or self.max_tokens
        answers = asked.get("n") or 1
        assert isinstance(each, int) and isinstance(answers, int)  # noqa: PT018 (of the configuration)
        return each * answers


_ASKING = {"api_key_env", "concurrency", "requests_per_minute", "max_retries", "timeout_s"}


def generator_key(generator: GeneratorConfig) -> dict[str, Any]:
    """The settings that decide what a generator writes; how an endpoint is asked is left out."""
    key = generator.model_dump(mode="json", exclude={"endpoint"})
    return (
        key
        if generator.endpoint is None
        else {**key, "endpoint": generator.endpoint.model_dump(mode="json", exclude=_ASKING)}
    )


class PromptsConfig(Section):
    """Stage `synthesize`: where templates come from, the gate, and the leak-free split."""

    seed_templates: Place | None = None
    """JSONL file of user templates (rows with `text`, optional `system`); `builtin` takes the task's own. The first one
    is the template of arm `sft`."""
    held_out_templates: Place | None = None
    """JSONL file of templates never trained on; `builtin` takes the task's own. Default: split 8:1 by cluster from all
    candidates."""
    generators: tuple[GeneratorConfig, ...] = ()
    """Models that write candidates; none: only the user's templates are used."""
    num_candidates: Positive = 40
    """Target number of accepted synthesized templates, shared between the generators."""
    max_attempts: Positive = 4
    """Rounds of generation at most; each asks for what is still missing. The run says what it got."""
    few_shot: Positive = 3
    """Example templates shown in a few-shot request; half of the requests are zero-shot (paper, section 3.1)."""
    share_examples: Annotated[int, Field(ge=0)] = 0
    """Training rows, with their answers, shown in every request to a generator, endpoints outside the cluster included;
    0: no row is shown."""
    max_words: Positive = 120
    """Longest template in words."""
    similarity: Fraction = 0.7
    """Word-trigram Jaccard above which two templates are near-duplicates (one cluster)."""
    held_out_fraction: Fraction = 1 / 9
    """Share of templates held out when no file is given (8:1, paper section 3.1)."""
    min_held_out: Annotated[int, Field(ge=2)] = 12
    """Fewest held-out templates: below 12 the spread over templates means little."""

    @property
    def local_generators(self) -> tuple[GeneratorConfig, ...]:
        """Generators that run in the cluster, not behind an endpoint."""
        return tuple(generator for generator in self.generators if generator.endpoint is None)


def prompts_key(prompts: PromptsConfig) -> dict[str, Any]:
    """The settings that decide the prompt set."""
    key = prompts.model_dump(
        mode="json", exclude={"generators"} | (set() if prompts.share_examples else {"share_examples"})
    )
    return {**key, "generators": [generator_key(generator) for generator in prompts.generators]}


class ScoreConfig(Section):
    """Stage `score`: the base model answers validation rows under every training template."""

    enabled: bool = True
    """Needed for arm `top_accuracy` and `select_top`."""
    num_examples: Positive = 50
    """Validation rows per template."""
    select_top: Positive | None = None
    """Keep only the best-scored n training templates for arm `paft` (with `enabled`); default: keep all."""
