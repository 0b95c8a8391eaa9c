"""No secret in what is stored, printed or shipped: configuration, task, files of a job. It is named, never shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from paft_ray.config import Config
from paft_ray.credentials import KNOWN, holds_credentials, looks_secret, names_secret
from paft_ray.errors import UserError
from paft_ray.tasks.task import Task
from paft_ray.text import secrets_in

_REMEDY = "secrets come from the environment only"
_FREE_TEXT = re.compile(r"header|query", re.IGNORECASE)  # sections of endpoint.request
_FILE = re.compile(
    r"\.env.*|.*\.env|[._]netrc|\.pgpass|\.my\.cnf|\.npmrc|\.pypirc|\.git-credentials|\.htpasswd|\.dockercfg|\.boto"
    r"|\.vault-token|\.s3cfg|\.kube|\.aws|\.ssh|\.gnupg|\.azure|\.docker|\.huggingface|\.ray|kubeconfig|gcloud"
    r"|.*\.(?:pem|key|p12|pfx|jks|keystore|kdbx|ppk|ovpn|gpg|asc|kubeconfig)|id_\w+(?:\.pub)?|secrets?\.(?!py)\w+"
    r"|.*service[-_]?account.*\.json|application_default_credentials.*",
    re.IGNORECASE,
)
_SETTINGS = ("", ".json", ".txt", ".ini", ".cfg", ".conf", ".toml")  # where a key is kept, unlike rows and code


def check_no_secrets(config: Config, task: Task) -> None:
    """Raises `UserError` for a secret in configuration or task, which are stored and printed."""
    values = config.model_dump(mode="json")
    for place, _, text in [*_texts(values, ""), *_texts(task.model_dump(mode="json"), f"task {task.name}")]:
        if held := secrets_in(text):
            where = f"{place}: " if place else ""
            raise UserError(f"config: {where}holds the value of {', '.join(held)}, and would be stored with the run; {_REMEDY}, take it out")
        if KNOWN.search(text):
            raise UserError(f"config: {place or 'a name'} holds what looks like a key or token, and would be stored with the run; {_REMEDY}, take it out")
    _check_options(values["engine"]["engine_kwargs"], "engine.engine_kwargs", free=True)
    for generator in config.prompts.generators:
        if generator.endpoint:
            _check_options(generator.endpoint.request, f"generator {generator.label}: endpoint.request", free=False)
    for name, uri in _uris(config, task).items():
        if uri and holds_credentials(uri):
            raise UserError(f"{name}: the URI holds credentials, which would be stored with the run; give them in the environment (e.g. AWS_ACCESS_KEY_ID)")


def check_file(path: str, content: bytes, *, own: bool) -> None:
    """Raises `UserError` for a file (path in the job's folder) that looks like a secret, by its name or by what is in it.

    `own`: one of the user's, in which the values of variables are looked for, too.
    """
    *folders, last = PurePath(path).parts
    if named := next((part for part in folders if _FILE.fullmatch(part)), last if is_secret_file(last) else None):
        raise UserError(f"submit: {path}: {named} looks like a secret by its name, and would be shipped; take it away, {_REMEDY}")
    text = content.decode(errors="replace")
    found = [f"the value of {name}" for name in (secrets_in(text) if own else ())]
    found += ["what looks like a key or token"] if KNOWN.search(text) else []
    if found:
        raise UserError(f"submit: {path}: holds {found[0]}, and would be shipped; take it out, {_REMEDY}")


def is_secret_file(name: str) -> bool:
    """Whether a file of this name holds keys or passwords by custom: `.env`, `id_ed25519`, `credentials.json`."""
    path = PurePath(name)
    return _FILE.fullmatch(name) is not None or (path.suffix.lower() in _SETTINGS and names_secret(path.stem))


def _check_options(options: Any, place: str, *, free: bool) -> None:
    """`free`: no library reads identities there, so that random letters can only be a key."""
    for where, name, text in _texts(options, place):
        if name and names_secret(name):
            raise UserError(f"{place}.{name}: {_REMEDY}; set HF_TOKEN, or the variable that endpoint.api_key_env names")
        if (free or _FREE_TEXT.search(where)) and looks_secret(text):
            raise UserError(f"{where}: holds what looks like a key or token; {_REMEDY}, take it out")


def _uris(config: Config, task: Task) -> dict[str, str | None]:
    """Every setting that may be a URI, by name."""
    rows = {"data." + name: getattr(config.data, name) for name in ("train", "validation", "test")}
    rows |= {f"sources.{name} of task {task.name}": source.path for name, source in task.sources.items()}
    asked = {f"generator {each.label}: endpoint.base_url": each.endpoint.base_url for each in config.prompts.generators if each.endpoint}
    return {"storage": config.storage, "tracking.mlflow": config.tracking.mlflow, **rows, **asked}


def _texts(value: Any, place: str) -> Iterator[tuple[str, str, str]]:
    """(place, key of an option that holds something else "", text) of every key and text below, keys first."""
    if isinstance(value, dict):
        for key, inner in value.items():
            below = f"{place}.{key}" if place else key
            yield place, "", key
            if inner is not None and not isinstance(inner, bool):
                yield below, key, ""
            yield from _texts(inner, below)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, place)
    elif isinstance(value, str):
        yield place, "", value
