"""Why an engine ended: whether another start can help, and what to say."""

from __future__ import annotations

import re

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError, UserCodeException

from paft_ray.errors import one_line
from paft_ray.sanitize import masked

_EXCEPTION = re.compile(r"^[\w.]*(Error|Exception|Interrupt)\b", re.MULTILINE)


def cause(error: RayError) -> BaseException:
    """What a remote traceback began with."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        error = error.cause
    return error


def died(error: RayError) -> bool:
    """Whether a process or node was lost; an engine that refuses its settings would do so again."""
    first = cause(error)
    ours = isinstance(first, RayTaskError | UserCodeException) or (
        isinstance(first, RayActorError) and first.actor_init_failed
    )
    return isinstance(first, RayError) and not ours


def reason(error: RayError) -> str:
    """One line: for a lost actor what Ray says of its end, else the exception at the end of the remote traceback."""
    if died(error):
        return one_line(cause(error))[:500]
    text = masked(str(error))
    *_, last = [0, *(found.start() for found in _EXCEPTION.finditer(text))]
    return one_line(text[last:])[:500] or type(error).__name__


def logs() -> str:
    """Where Ray keeps what its processes say."""
    return f"{ray._private.worker._global_node.get_logs_dir_path()} on each node"
