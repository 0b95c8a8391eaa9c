"""Why an engine failed: whether another start can help, and the message."""

from __future__ import annotations

import re

from ray.exceptions import RayActorError, RayError, RayTaskError, UserCodeException

from paft_ray.compat.ray import log_folder
from paft_ray.errors import one_line
from paft_ray.sanitize import masked

_EXCEPTION = re.compile(r"^[\w.]*(Error|Exception|Interrupt)\b", re.MULTILINE)
_LONGEST = 500


def root_cause(error: RayError) -> BaseException:
    """The error that a remote traceback began with. Where it could not be sent (Ray has a plain `RayError` in its
    place, such as for pydantic's), the one that holds the traceback."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, Exception) and type(error.cause) is not RayError:
        error = error.cause
    return error


def is_process_failure(error: RayError) -> bool:
    """Whether a process or node was lost; an engine that refuses its settings would do so again."""
    first = root_cause(error)
    ours = isinstance(first, RayTaskError | UserCodeException) or (
        isinstance(first, RayActorError) and first.actor_init_failed
    )
    return isinstance(first, RayError) and not ours


def failure_reason(error: RayError) -> str:
    """One line: for a lost actor what Ray says of its end, else the exception at the end of the remote traceback."""
    if is_process_failure(error):
        return one_line(root_cause(error))[:_LONGEST]
    text = masked(str(error))
    *_, last = [0, *(exception.start() for exception in _EXCEPTION.finditer(text))]
    return one_line(text[last:])[:_LONGEST] or type(error).__name__


def log_dir() -> str:
    """The folder in which Ray keeps what its processes print, for a message."""
    return f"{log_folder()} on each node"
