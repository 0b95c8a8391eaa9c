"""Lines that a run's workers say, on the driver's console. What libraries print in workers stays in Ray's log folder: it would bury a run's own lines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAME = "paft-console"


class _Lines:
    """An actor that hands lines on in the order in which they came."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[str | None] = asyncio.Queue()

    async def put(self, line: str | None) -> None:
        await self.waiting.put(line)

    async def take(self) -> str | None:
        """The next line, waited for; None ends the console."""
        return await self.waiting.get()


def say(line: str) -> None:
    """Puts a line on the driver's console, from any worker of the job; without a console it is printed where it is said."""
    actor = _console()
    if actor is None:
        print(line, flush=True)
    else:
        actor.put.remote(line)


@contextmanager
def console() -> Iterator[None]:
    """Prints what workers `say` while the block runs. Ray must be initialised."""
    import ray

    actor = ray.remote(_Lines).options(name=_NAME, num_cpus=0).remote()
    printer = threading.Thread(target=_print_lines, args=(actor,), daemon=True)
    printer.start()
    try:
        yield
    finally:
        actor.put.remote(None)
        printer.join(timeout=5)
        ray.kill(actor)


def _print_lines(actor: Any) -> None:
    import ray
    from ray.exceptions import RayError

    try:
        while (line := ray.get(actor.take.remote())) is not None:
            print(line, flush=True)
    except RayError:  # Ray ended first
        return


def _console() -> Any:
    """The console of this job, None where it has none."""
    import ray

    if not ray.is_initialized():
        return None
    try:
        return ray.get_actor(_NAME)
    except ValueError:
        return None
