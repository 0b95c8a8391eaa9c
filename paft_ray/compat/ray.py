"""Ray: addresses, jobs, folders and environment variables (2.60.0). Ray is imported only where a function needs it, for
commands that start no Ray read this module, too."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HEAD_CALL = "/ray.rpc.NodeInfoGcsService/GetClusterId"
CLIENT_SERVER_CALL = "/ray.rpc.RayletDriver/ClusterInfo"
"""Calls of Ray's wire protocol that change nothing and take an empty message: whether a port belongs to a Ray is known
in a second, where `ray.init` tries for a quarter of an hour. Public replacement: a connect timeout of `ray.init`."""
TRAIN_PRINT_PATCH = "RAY_TRAIN_ENABLE_PRINT_PATCH"
TRAIN_GROUP_START_TIMEOUT_S = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
TRAIN_PREEMPTION_WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
TRAIN_HEALTH_CHECK_INTERVAL_S = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"
TUNE_NEW_OUTPUT = "RAY_AIR_NEW_OUTPUT"
DATA_LOG_LEVEL = "RAY_DATA_LOG_LEVEL"
"""Variables that Ray's libraries read and do not all document. One that is renamed is without effect: lines come twice,
or a wait is as long as Ray's default. Public replacement: fields of `RunConfig` and `DataContext`."""
_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_PROGRESS_LOGGER = "ray.data._internal.progress"


def is_submitted_job() -> bool:
    """Whether a Ray job (`ray job submit`, RayJob) started this process: Ray hands its settings over in a variable.

    Public replacement: a variable of our own; but jobs are also submitted without `paft submit`.
    """
    return _JOB_CONFIG in os.environ


def job_config(import_from: Sequence[str]) -> Any:
    """Settings of a job whose workers look for modules in the folders `import_from`, and not in the driver's folder.

    Ray puts the folder of the driver's script before Python's own library unless the job has a working directory, which
    `OwnPath` claims. Public replacement: a runtime environment, which copies the package and costs seconds at each
    start.
    """
    from ray.job_config import JobConfig

    class OwnPath(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            return True

    return OwnPath(_py_driver_sys_path=list(import_from))


def bootstrap_address(place: str) -> str | None:
    """HOST:PORT of the head that `ray.init(address=place)` would join, None where it would start one.

    Raises `ConnectionError` where `auto` finds none. Public replacement: none; only `ray.init` resolves `auto`.
    """
    from ray._private.services import canonicalize_bootstrap_address

    return canonicalize_bootstrap_address(place)


def folder_arguments(folder: str) -> dict[str, str]:
    """Arguments of `ray.init` that put Ray's files into `folder`.

    Public replacement: RAY_TMPDIR, which would also move what every child process of the user's writes.
    """
    return {"_temp_dir": folder}


def session_folder() -> Path | None:
    """The folder of Ray's session on this node; None where this process has joined no Ray, or through Ray's client.

    `session_NAME` in Ray's temporary folder is documented, a function that returns it is not there.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    try:
        return Path(context.get_temp_dir()) / context.get_session_name()
    except AttributeError:  # the context of Ray's client has neither
        return None


def log_folder() -> Path | None:
    """The folder on this node in which Ray keeps what its processes print; None as `session_folder`."""
    session = session_folder()
    return None if session is None else session / "logs"


def is_own() -> bool:
    """Whether this process has started the Ray that it has joined, which then serves it alone.

    Public replacement: none; `ray.init` says it to no one.
    """
    from ray._private import worker

    node = worker._global_node
    return node is not None and node.is_head()


def quiet_progress() -> None:
    """Keeps Ray Data from warning in every stage that progress bars are off; it has no setting for the warning."""
    logging.getLogger(_PROGRESS_LOGGER).setLevel(logging.ERROR)
