"""What goes wrong in a stage, as one line that names run, stage and logs."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paft_ray.compat.ray import log_folder
from paft_ray.errors import StageError, StorageError, UserError, one_line
from paft_ray.sanitize import masked
from paft_ray.storage.store import Store
from paft_ray.storage.temp_dirs import only_folder

_LONGEST = 400


@contextmanager
def named(run: Store, stage: str) -> Iterator[None]:
    """Raises whatever goes wrong in the block as a `StageError`; `UserError` goes through. The traceback of what no one
    foresaw is kept in the run."""
    where = f"run {run.name} ({run.root}), stage {stage}"
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise StageError(f"{where}: {reason(run, stage, error)}{_logs()}") from error


def reason(run: Store, stage: str, error: BaseException) -> str:
    """What went wrong first, in one line; the traceback of what no one foresaw is kept in the run, in a file that
    begins with `stage`."""
    for kind in (StorageError, StageError, UserError):
        if (known := first_cause(error, kind)) is not None:
            return one_line(known)
    first = causes(error)[-1]
    return f"{type(first).__name__}: {one_line(first)[:_LONGEST]}; traceback: {keep_traceback(run, stage, error)}"


def first_cause(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """The outermost error of a kind among the causes. Ray's wrapper, which is of the class of its cause too, is none:
    its text is a traceback."""
    return next((cause for cause in causes(error) if isinstance(cause, kind) and not hasattr(cause, "cause")), None)


def causes(error: BaseException) -> list[BaseException]:
    """The error, then those that it wraps, outermost first: Ray and Ray Train carry a worker's error as a value, Python
    as `__cause__`."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if any(one is other for other in found):
            continue
        found.append(one)
        values = [
            value for field in vars(one).values() for value in (field.values() if isinstance(field, dict) else [field])
        ]
        waiting += [value for value in (*values, one.__cause__) if isinstance(value, BaseException)]
    return found


def keep_traceback(run: Store | None, stage: str, error: BaseException) -> str:
    """Path or URI of the file with the complete traceback, without secrets: in the run, or in this machine's temporary
    folder where the run takes no file; there the newest one of this user is kept."""
    name = f"{stage}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.txt"
    text = masked("".join(traceback.format_exception(error))).encode(errors="backslashreplace")
    if run is not None:
        try:
            run.write_bytes(f"logs/{name}", text)
            return run.uri(f"logs/{name}")
        except StorageError:
            pass
    folder = Path(only_folder("paft-error", str(os.getuid())))
    (folder / name).write_bytes(text)
    return str(folder / name)


def _logs() -> str:
    """Where Ray keeps what its processes print, on the node of the driver; nothing without a Ray session."""
    folder = log_folder()
    return f"; Ray's logs: {folder}" if folder else ""
