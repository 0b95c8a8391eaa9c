"""Ctrl-C and SIGTERM: the first lets a command stop cleanly, a second one ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from paft_ray.echo import echo

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TOLD_S = 1.0


@contextmanager
def interruptible(remedy: str) -> Iterator[None]:
    """Ends the process with one line and code 128 + the signal (130 for Ctrl-C, 143 for SIGTERM) where the block is
    interrupted.

    `remedy` says how to go on. Signals are counted through Python's wake-up descriptor: Ray, Ray Train and Ray Tune put
    handlers of their own in place (which raise `KeyboardInterrupt` or `SystemExit`), and no handler runs while the main
    thread waits in C, as in `ray.shutdown`.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    arrived: list[int] = []
    handled: list[int] = []

    def interrupt(signum: int, _: object) -> None:
        handled.append(signum)
        if len(handled) > 1:
            time.sleep(_TOLD_S)  # the process ends meanwhile
        raise KeyboardInterrupt

    # What a shell told a background job to ignore stays ignored.
    handlers = {
        number: signal.signal(number, interrupt) for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN
    }
    told = threading.Event()
    threading.Thread(target=_count, args=(reader, arrived, told), name="paft-signals", daemon=True).start()
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        told.wait(_TOLD_S)
        echo(f"paft: interrupted; {remedy}", err=True)
        sys.exit(128 + (arrived[0] if arrived else signal.SIGINT))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        os.close(writer)


def _count(reader: int, arrived: list[int], told: threading.Event) -> None:
    """Until the other end is closed."""
    with os.fdopen(reader, "rb", buffering=0) as stream:
        while received := stream.read(1):
            if received[0] not in _SIGNALS:
                continue
            if arrived:
                echo("paft: stopped at once", err=True)
                os._exit(128 + received[0])
            arrived.append(received[0])
            echo("paft: stopping; Ctrl-C from here on stops at once", err=True)
            told.set()
