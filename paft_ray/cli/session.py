"""The one place where Ray is started or joined."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from paft_ray.cli.check import local_resources
from paft_ray.cli.environment import prepare_environment
from paft_ray.console import console
from paft_ray.errors import UserError, one_line
from paft_ray.scheduling import as_helper


@contextmanager
def ray_session(address: str | None = None) -> Iterator[Mapping[str, float]]:
    """Total resources of the cluster at `address` (or RAY_ADDRESS), else of a local Ray with room for a worker beside Ray Data, closed to the outside.

    Raises `UserError` where no cluster answers at the address.
    """
    prepare_environment()
    target = address or os.environ.get("RAY_ADDRESS")
    if not target:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # as Ray would decide, after a warning; read when ray is imported
    import ray
    import ray.data

    if target:
        try:
            ray.init(address=target, logging_level="warning", log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.AuthenticationError) as error:
            reason = one_line(error)[:200]
            raise UserError(
                f"--address {target}: no Ray cluster could be joined ({reason}); give HOST:PORT or auto, and RAY_AUTH_MODE=token if it asks"
            ) from None
    else:
        total = local_resources()
        as_helper()
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # it asks whether nodes will go; each process of Ray's wakes 100 times a second
        # The dashboard listens on the loopback; without it Ray Train warns every second that it cannot ask for the state of its controller.
        # Without `local` Ray would join what was started last on this machine, or fail where only its address file is left.
        ray.init("local", num_cpus=int(total["CPU"]), include_dashboard=True, dashboard_host="127.0.0.1", logging_level="warning", log_to_driver=False)
    _keep_sigterm()
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # warns that they are off
    try:
        with console():
            yield ray.cluster_resources()
    finally:
        ray.shutdown()


def _keep_sigterm() -> None:
    """Takes SIGTERM back from the handler in C that Ray puts before Python's: it aborts the process 3 s later, whatever is being ended meanwhile."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
