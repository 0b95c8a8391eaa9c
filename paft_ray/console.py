"""The driver's end of the log: lines of all workers of a job, in order, on one console."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paft_ray.echo import end_progress
from paft_ray.errors import UserError
from paft_ray.log import ACTOR, Line, set_has_console, show

_EVERY_S = 0.5
_LAST_LINES_S = 30
"""The process that keeps the lines may still be starting when a short command ends: ten seconds on a slow machine."""


class _Lines:
    """An actor that keeps lines until they are taken; a worker's calls are carried out in their order."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def put(self, line: Line) -> None:
        self.lines.append(line)

    def take(self) -> list[Line]:
        """The lines since the last call."""
        taken, self.lines = self.lines, []
        return taken


@contextmanager
def console() -> Iterator[None]:
    """Shows what this process and its workers log while the block runs. Ray must be initialized."""
    import ray

    from paft_ray.placement import on_this_node  # no other node's end ends the lines

    actor = ray.remote(_Lines).options(name=ACTOR, num_cpus=0, scheduling_strategy=on_this_node()).remote()
    done = threading.Event()
    printer = threading.Thread(target=_show_lines, args=(actor, done), daemon=True)
    set_has_console(True)
    printer.start()
    try:
        yield
    finally:
        done.set()
        printer.join(timeout=_LAST_LINES_S)
        set_has_console(False)
        ray.kill(actor)
        end_progress()


def _show_lines(actor: Any, done: threading.Event) -> None:
    import ray
    from ray.exceptions import RayError

    try:
        last = False
        while not last:
            last = done.wait(_EVERY_S)
            for line in ray.get(actor.take.remote()):
                show(line)
    except (RayError, OSError, UserError):
        return  # Ray ended first, or standard output takes no more: then the command says so at its end
