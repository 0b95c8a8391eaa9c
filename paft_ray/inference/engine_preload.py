"""An engine's process that imports vLLM while its actor still does, instead of after it: some eight seconds of one
core, twice.

The actor starts Python's fork server before its own imports. The process that vLLM asks for is forked from it, once it
has imported what an engine needs. For engines on a CPU: vLLM lets them be spawned only, for the sake of the libraries
and variables below, which the server has from its start.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

from paft_ray.compat.fork_server import let_server_end
from paft_ray.compat.lazy_imports import uncollected
from paft_ray.compat.vllm import PRELOAD, preloaded_libraries, start_engines_in

ENVIRONMENT = {"PAFT_ENGINE_PRELOAD": "1"}
"""Of an actor whose engine process is preloaded."""
_LIBRARIES = "LD_PRELOAD"
_SIGNAL_AT_PARENTS_END = 1  # PR_SET_PDEATHSIG of prctl(2)


@contextmanager
def importing() -> Iterator[None]:
    """The block imports vLLM; in an actor of such an engine the fork server does so, too, and vLLM's engine process
    will come from it.

    Not where the user has set LD_PRELOAD: vLLM knows what to add to it.
    """
    if not ENVIRONMENT.keys() <= os.environ.keys() or _LIBRARIES in os.environ:
        yield
        return
    os.environ[_LIBRARIES] = ":".join(preloaded_libraries())
    forkserver.set_forkserver_preload([PRELOAD])
    forkserver.ensure_running()
    with uncollected():
        yield
        start_engines_in(_Context())


class _Process(ForkServerProcess):
    """With the variables that this process has when it asks for it, as if it were spawned; it ends with the server,
    which ends with the actor."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.environment = dict(os.environ)

    def run(self) -> None:
        if sys.platform == "linux":
            _end_with_parent()  # an actor that has lost its raylet ends its own children only
        let_server_end()
        # Only what differs: a variable that is written again moves, and the process could not be given a name any more.
        os.environ.update(self.environment.items() - os.environ.items())
        super().run()


class _Context(ForkServerContext):
    Process = _Process


def _end_with_parent() -> None:
    """Linux ends this process (SIGKILL) as soon as its parent has ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SIGNAL_AT_PARENTS_END, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
