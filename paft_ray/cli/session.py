"""The one place where Ray is started or joined."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import paft_ray
from paft_ray.cli.connectivity import reach
from paft_ray.cli.env_defaults import has_token, prepare_environment
from paft_ray.cli.folders import home, moved_caches, ray_folder, token_can_be_written
from paft_ray.cli.resources import local_resources
from paft_ray.compat.ray import (
    TRAIN_PREEMPTION_WATCHER,
    folder_arguments,
    is_submitted_job,
    job_config,
    quiet_progress,
)
from paft_ray.console import console
from paft_ray.cpu_priority import as_helper
from paft_ray.echo import echo
from paft_ray.errors import UserError, one_line


@contextmanager
def ray_session(address: str | None = None) -> Iterator[None]:
    """The cluster at `address` (or RAY_ADDRESS), else a local Ray with room for a worker next to Ray Data, closed to
    the outside.

    Raises `UserError` where no cluster answers at the address.
    """
    prepare_environment()
    target = address or os.environ.get("RAY_ADDRESS")
    if not target:
        _prepare_local()
    import ray
    import ray.data

    if target:
        reach(target)
        try:
            ray.init(
                address=target,
                logging_level="warning",
                log_to_driver=False,
                **({} if target.startswith("ray://") else {"job_config": _own_path()}),
            )
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.AuthenticationError) as error:
            reason = one_line(error)[:200]
            raise UserError(
                f"--address {target}: no Ray cluster could be joined ({reason}); give HOST:PORT or auto, and "
                "RAY_AUTH_MODE=token if it asks"
            ) from None
    else:
        _start_local()
    _keep_sigterm()
    ray.data.DataContext.get_current().enable_progress_bars = False
    quiet_progress()
    try:
        with console():
            yield
    finally:
        ray.shutdown()


def _prepare_local() -> None:
    """Sets what Ray reads when it is imported; its warnings say what is decided here."""
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode.lower() == "token" and not has_token() and not token_can_be_written():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # else Ray makes one and keeps it in the home
    if caches := moved_caches():
        echo(
            f"paft: the home {home()} cannot be written: caches are in {caches}; set HOME, or PAFT_CACHE and "
            "HF_HOME, for another place",
            err=True,
        )


def _start_local() -> None:
    """A Ray of this command alone, which ends with it. What it starts imports nothing from the folder that the command
    is started in."""
    import ray

    as_helper()
    # It asks whether nodes will go; each process of Ray's wakes 100 times a second.
    os.environ.setdefault(TRAIN_PREEMPTION_WATCHER, "0")
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # a user's email.py or queue.py there would stand before Python's own
    # The dashboard listens on the loopback; without it Ray Train warns every second that it cannot ask for the state of
    # its controller. Without `local` Ray would join what was started last on this machine, or fail where only its
    # address file is left.
    ray.init(
        "local",
        num_cpus=int(local_resources()["CPU"]),
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        logging_level="warning",
        log_to_driver=False,
        job_config=_own_path(),
        **_places(),
    )


def _places() -> dict[str, str]:
    """Arguments of `ray.init` for its folders, where the one that RAY_TMPDIR or TMPDIR names will not do; said in one
    line."""
    folder = ray_folder()
    if folder is None:
        return {}
    given = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    # Of what Ray starts: sockets of multiprocessing and of vLLM are there.
    os.environ["TMPDIR"] = str(Path(folder).parent)
    echo(
        f"paft: Ray's files are in {folder}: {given} cannot be written, or the paths of its sockets would be too long",
        err=True,
    )
    return {**folder_arguments(folder), **({"object_spilling_directory": given} if os.access(given, os.W_OK) else {})}


def _own_path() -> Any:
    """Ray's settings of a job whose workers import this package from where the driver has it, and nothing else that
    is in the driver's folder."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)  # another node may have none
    found = PathFinder.find_spec("paft_ray", [entry for entry in sys.path if entry not in given])
    # A job's folder is on the path of its workers.
    known = is_submitted_job() or (found is not None and found.origin == paft_ray.__file__)
    return job_config([] if known else [str(Path(paft_ray.__file__).parents[1])])


def _keep_sigterm() -> None:
    """Takes SIGTERM back from the handler in C that Ray puts before Python's: it aborts the process 3 s later, whatever
    is being stopped meanwhile."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
