"""Lines that a run's stages and their workers say, in order on the driver's console. What libraries print in workers
stays in Ray's log folder."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paft_ray.echo import echo
from paft_ray.errors import UserError

_NAME = "paft-console"
_EVERY_S = 0.5


class _Lines:
    """An actor that keeps lines until they are taken; a worker's calls are carried out in their order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def put(self, line: str) -> None:
        self.lines.append(line)

    def take(self) -> list[str]:
        """The lines since the last call."""
        taken, self.lines = self.lines, []
        return taken


def say(line: str) -> None:
    """Puts a line on the driver's console, from any worker of the job; without a console it is printed where it is
    said."""
    actor = _console()
    if actor is None:
        echo(line)
    else:
        actor.put.remote(line)


@contextmanager
def console() -> Iterator[None]:
    """Prints what workers `say` while the block runs. Ray must be initialised."""
    import ray

    actor = ray.remote(_Lines).options(name=_NAME, num_cpus=0).remote()
    done = threading.Event()
    printer = threading.Thread(target=_print_lines, args=(actor, done), daemon=True)
    printer.start()
    try:
        yield
    finally:
        done.set()
        printer.join(timeout=5)
        ray.kill(actor)


def _print_lines(actor: Any, done: threading.Event) -> None:
    import ray
    from ray.exceptions import RayError

    try:
        last = False
        while not last:
            last = done.wait(_EVERY_S)
            for line in ray.get(actor.take.remote()):
                echo(line)
    except (
        RayError,
        OSError,
        UserError,
    ):  # Ray ended first, or standard output takes no more: then the command says so at its end
        return


def _console() -> Any:
    """The console of this job, None where it has none."""
    if "ray" not in sys.modules:  # training runs without it, too, on machines that lack it
        return None
    import ray

    if not ray.is_initialized():
        return None
    try:
        return ray.get_actor(_NAME)
    except ValueError:
        return None
