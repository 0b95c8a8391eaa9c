"""Python's fork server (CPython 3.11)."""

from __future__ import annotations

import os
from multiprocessing import forkserver
from typing import Any


def let_server_end() -> None:
    """For a process that came from the fork server: closes what keeps the server alive, which then ends with the
    process that has started it.

    Each child is given the write end of the server's pipe, so that it may ask for children of its own; the server ends
    once nobody holds it. Public replacement: none.
    """
    server: Any = forkserver._forkserver
    descriptor, server._forkserver_alive_fd = server._forkserver_alive_fd, None
    if descriptor is not None:
        os.close(descriptor)
