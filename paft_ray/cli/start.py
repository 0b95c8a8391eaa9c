"""The entry point of `paft`, which imports nothing but `signal` before it can be interrupted."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Runs the command line; while it is imported there is nothing to clean up, and an interrupt ends it at once."""
    before = {
        number: signal.signal(number, _quit)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) != signal.SIG_IGN
    }
    from paft_ray.cli.main import main as command

    for number, handler in before.items():
        signal.signal(number, handler)
    command()


def _quit(number: int, _: object) -> None:
    """No exception: libraries turn one that they meet in an import into another."""
    os.write(2, b"paft: interrupted\n")
    os._exit(128 + number)
