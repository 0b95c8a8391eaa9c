"""A limit of time for code of others."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TooLongError(TimeoutError):
    """Code of others ran for longer than it may."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises `TooLongError` in a block that runs for longer, wherever Python can interrupt it; outside the main thread
    there is no limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TooLongError(f"still running after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again: the code may have caught the first one
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
