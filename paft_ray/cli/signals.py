"""Ctrl-C and SIGTERM: the first lets a command stop cleanly, a second one kills it at once."""

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
_REPORTED_S = 1.0


@contextmanager
def terminable() -> Iterator[None]:
    """Ends the process with one line and code 130 or 143 where the block is interrupted, after its clean-up.

    For commands that keep nothing to resume; `interruptible` inside it takes over. Handlers belong to the main thread:
    elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def end(signum: int, _: object) -> None:
        arrived.append(signum)
        raise SystemExit(128 + signum)  # of KeyboardInterrupt, typer makes an exit without a line

    handlers = {
        number: signal.signal(number, end)
        for number in _SIGNALS
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    }
    try:
        yield
    except SystemExit:
        if arrived:
            echo("paft: interrupted", err=True)
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


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
            time.sleep(_REPORTED_S)  # the process ends meanwhile
        raise KeyboardInterrupt

    # What a shell makes a background job ignore stays ignored.
    handlers = {
        number: signal.signal(number, interrupt) for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN
    }
    reported = threading.Event()
    threading.Thread(target=_count, args=(reader, arrived, reported), name="paft-signals", daemon=True).start()
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        reported.wait(_REPORTED_S)
        echo(f"paft: interrupted; {remedy}", err=True)
        sys.exit(128 + (arrived[0] if arrived else signal.SIGINT))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        os.close(writer)


def _count(reader: int, arrived: list[int], reported: threading.Event) -> None:
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
            reported.set()
