"""Variables that libraries read when they are imported: telemetry off, quiet workers, caches that can be written. What
the user has set stays."""

import os

from paft_ray.cli.folders import place_caches
from paft_ray.compat.ray import DATA_LOG_LEVEL, TRAIN_HEALTH_CHECK_INTERVAL_S, TUNE_NEW_OUTPUT

_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    TUNE_NEW_OUTPUT: "0",  # else Tune prints tables of its own
    "WANDB_ERROR_REPORTING": "false",
    "TOKENIZERS_PARALLELISM": "false",
    TRAIN_HEALTH_CHECK_INTERVAL_S: "0.5",  # a report waits for the fetch of the one before: Ray fetches every 2 s
    # What libraries say about themselves would bury a run's own lines; the full logs stay in Ray's log folder.
    DATA_LOG_LEVEL: "WARNING",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning",
}


def prepare_environment() -> None:
    """Sets them, before any of the libraries is imported."""
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    place_caches()


def has_token() -> bool:
    """Whether Ray would find a token on this machine: RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, or
    ~/.ray/auth_token."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    return os.path.isfile(os.path.expanduser(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"))


def use_token() -> None:
    """Makes Ray send the token where there is one and the user has not decided otherwise; before ray is imported, which
    reads the variable."""
    if has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
