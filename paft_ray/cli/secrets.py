"""No secret in what is stored, printed or shipped: configuration, task, files of a job. It is named, never shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from paft_ray.config import Config, EndpointConfig
from paft_ray.credentials import KNOWN, REMEDY, check_options, holds_credentials, names_secret, texts
from paft_ray.errors import UserError
from paft_ray.sanitize import secrets_in
from paft_ray.tasks.task import Task

_FILE = re.compile(
    r"\.env.*|.*\.env|[._]?netrc|\.pgpass|\.my\.cnf|\.npmrc|\.pypirc|\.git-credentials|\.htpasswd|\.dockercfg|\.boto"
    r"|\.vault-token|\.s3cfg|\.kube|\.aws|\.ssh|\.gnupg|\.azure|\.docker|\.huggingface|\.ray|kubeconfig|gcloud"
    r"|.*\.(?:pem|key|p12|pfx|jks|keystore|kdbx|ppk|ovpn|gpg|asc|kubeconfig)|id_(?:rsa|dsa|ecdsa|ed25519)\w*(?:-cert)?(?:\.pub)?|secrets?(?:\.(?!py)\w+)?|.*\.keytab|rclone\.conf|creds(?:\.\w+)?"
    r"|.*service[-_]?account.*\.json|application_default_credentials.*",
    re.IGNORECASE,
)
_BACKUP = re.compile(r"(?:~|\.(?:bak|backup|old|orig|save|\d))+$", re.IGNORECASE)
_SETTINGS = ("", ".json", ".txt", ".ini", ".cfg", ".conf", ".toml")  # where a key is kept, unlike rows and code


def check_no_secrets(config: Config, task: Task) -> None:
    """Raises `UserError` for a secret in configuration or task, which are stored and printed."""
    values = config.model_dump(mode="json")
    for place, _, text in [*texts(values, ""), *texts(task.model_dump(mode="json"), f"task {task.name}")]:
        if held := secrets_in(text):
            where = f"{place}: " if place else ""
            raise UserError(
                f"config: {where}holds the value of {', '.join(held)}, and would be stored with the run; "
                f"{REMEDY}, remove it"
            )
        if KNOWN.search(text):
            raise UserError(
                f"config: {place or 'a name'} holds what looks like a key or token, and would be stored with the "
                f"run; {REMEDY}, remove it"
            )
    for name, endpoint in _endpoints(config):
        try:
            check_options(endpoint.request, f"{name}: endpoint.request", free=False)
        except ValueError as error:
            raise UserError(str(error)) from None
    for name, uri in _uris(config, task).items():
        if uri and holds_credentials(uri):
            raise UserError(
                f"{name}: the URI holds credentials, which would be stored with the run; give them in the "
                "environment (e.g. AWS_ACCESS_KEY_ID)"
            )


def check_arguments(arguments: Sequence[str]) -> None:
    """Raises `UserError` for a command line that holds a secret: a dashboard shows it."""
    for number, argument in enumerate(arguments, start=1):
        has_credentials = any(map(holds_credentials, (argument, argument.partition("=")[2])))
        if has_credentials or secrets_in(argument) or KNOWN.search(argument):
            name = argument.partition("=")[0] if argument.startswith("--") else f"model {number}"
            raise UserError(
                f"submit: {name} holds a secret, which the job's command line would show; {REMEDY}, remove it"
            )


def check_file(path: str, content: bytes, *, own: bool) -> None:
    """Raises `UserError` for a file (path in the job's folder) that looks like a secret, by its name or by what is in
    it.

    `own`: one of the user's, in which the values of variables are looked for, too.
    """
    *folders, last = PurePath(path).parts
    if named := next((part for part in folders if _FILE.fullmatch(part)), last if is_secret_file(last) else None):
        raise UserError(
            f"submit: {path}: {named} looks like a secret by its name, and would be shipped; take it away, {REMEDY}"
        )
    text = f"{path}\n{content.replace(bytes(1), b'').decode(errors='replace')}"  # of UTF-16 the letters alone
    found = [f"the value of {name}" for name in (secrets_in(text) if own else ())]
    found += ["what looks like a key or token"] if KNOWN.search(text) else []
    if found:
        raise UserError(f"submit: {path}: holds {found[0]}, and would be shipped; remove it, {REMEDY}")


def is_secret_file(name: str) -> bool:
    """Whether a file of this name holds keys or passwords by custom: `.env`, `id_ed25519`, `credentials.json`."""
    name = _BACKUP.sub("", name)
    path = PurePath(name)
    return _FILE.fullmatch(name) is not None or (path.suffix.lower() in _SETTINGS and names_secret(path.stem))


def _endpoints(config: Config) -> list[tuple[str, EndpointConfig]]:
    """(Name of the model that answers there, the endpoint); two of them may have one name."""
    named = [(f"generator {each.label}", each.endpoint) for each in config.prompts.generators]
    if config.prompts.judge is not None:
        named.append((f"judge {config.prompts.judge.model.label}", config.prompts.judge.endpoint))
    return [(name, endpoint) for name, endpoint in named if endpoint is not None]


def _uris(config: Config, task: Task) -> dict[str, str | None]:
    """Every setting that may be a URI, by name."""
    rows = {"data." + name: getattr(config.data, name) for name in ("train", "validation", "test")}
    rows |= {f"sources.{name} of task {task.name}": source.path for name, source in task.sources.items()}
    asked = {f"{name}: endpoint.base_url": endpoint.base_url for name, endpoint in _endpoints(config)}
    return {"storage": config.storage, "tracking.mlflow": config.tracking.mlflow, **rows, **asked}
