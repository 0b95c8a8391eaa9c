"""The endpoint that a model's name stands for. Reaches nothing."""

from __future__ import annotations

import re

from pydantic import ValidationError

from paft_ray.config import Config, GeneratorConfig, read_yaml_file
from paft_ray.config.addresses import refusal
from paft_ray.errors import UserError, first_fault
from paft_ray.tasks.task import Task

_URLS = ("http://", "https://")
_FILE = re.compile(r".+\.ya?ml")


def is_file(text: str) -> bool:
    """Whether a model's name is that of a file that describes an endpoint."""
    return not text.startswith(_URLS) and _FILE.fullmatch(text) is not None


def endpoint_of(text: str, config: Config, task: Task) -> GeneratorConfig | None:
    """The endpoint that a name stands for: `http(s)://HOST/v1#MODEL`, or a YAML file with the keys of a generator
    behind one (`id`, `endpoint`); its answers are as long as those of an engine. None where it is neither. Raises
    `UserError` for an address that nothing may be sent to."""
    settings: dict[object, object]
    if text.startswith(_URLS):
        url, _, model = text.partition("#")
        if not model:
            raise UserError("model: name it behind the URL of its endpoint, such as https://HOST/v1#NAME")
        settings = {"id": model, "endpoint": {"base_url": url}}
    elif is_file(text):
        settings = read_yaml_file(text, "endpoint")
    else:
        return None
    longest = config.evaluate.max_answer_tokens if task.label_texts else task.max_answer_tokens
    given = {"temperature": 0.0, "max_tokens": longest, **settings}
    try:
        found = GeneratorConfig.model_validate(given)
    except ValidationError as error:  # its message does not show a URL, which may hold a password
        raise UserError(f"model at an endpoint: {first_fault(error, 'endpoint')}") from None
    endpoint = found.endpoint
    if endpoint is None:
        raise UserError(f"model {text[:200]}: names no endpoint; write endpoint: {{base_url: https://HOST/v1}}")
    if endpoint.grammar:
        raise UserError(f"model {text[:200]}: endpoint.grammar is for templates that are written; leave it out")
    if reason := refusal(endpoint.base_url, keyed=endpoint.api_key_env is not None, allowed=config.insecure_hosts):
        raise UserError(f"model {found.label}: {reason}")
    return found
