"""Log lines with levels and time: loggers below `paft_ray`, whose lines come out on the driver's console wherever in
the cluster they are written. What libraries log in workers stays in Ray's log folder."""

from __future__ import annotations

import logging
import re
import sys
import time
from dataclasses import dataclass
from typing import Any

from paft_ray.echo import echo, echo_progress, shows_progress

ACTOR = "paft-console"
"""Name of the actor that takes the lines of a job's workers (paft_ray/console.py)."""
_MARKS = {logging.DEBUG: "debug: ", logging.INFO: "", logging.WARNING: "warning: ", logging.ERROR: "error: "}
_RECEIVED_S = 10
"""A worker's line is given up after this: what the work is for goes on without it."""
_shown_from = logging.INFO
_has_console = False


@dataclass(frozen=True, kw_only=True)
class Line:
    """One log line on its way to the console."""

    level: int
    """That of module `logging`."""
    created: float
    """Seconds since the epoch, by the clock of the process that wrote it."""
    text: str
    has_bar: bool = False
    """On a terminal the line is a bar until its work is finished."""
    fraction: float | None = None
    """Finished part of that work, in [0, 1]; None: not known."""
    is_plain: bool = True
    """Shown where there is no bar."""


class _Handler(logging.Handler):
    """Hands lines to the console of the job, or shows them where there is none."""

    def emit(self, record: logging.LogRecord) -> None:
        line = Line(
            level=record.levelno,
            created=record.created,
            text=record.getMessage(),
            has_bar=getattr(record, "has_bar", False),
            fraction=getattr(record, "fraction", None),
            is_plain=getattr(record, "is_plain", True),
        )
        actor = _actor()
        if actor is None:
            show(line)
            return
        sent = actor.put.remote(line)
        if not _has_console:  # a task's last line must be there before its result is: the driver may end with that
            sys.modules["ray"].wait([sent], timeout=_RECEIVED_S)


def get_logger(name: str) -> logging.Logger:
    """The logger of a module of this package (`name`: its `__name__`)."""
    top = logging.getLogger("paft_ray")
    if not any(isinstance(handler, _Handler) for handler in top.handlers):
        top.addHandler(_Handler())
        top.setLevel(logging.DEBUG)  # the console decides what it shows
        top.propagate = False  # Ray and vLLM have handlers on the root
    return logging.getLogger(name)


def show_from(level: int) -> None:
    """Sets the lowest level that this process shows: `logging.INFO` unless set."""
    global _shown_from
    _shown_from = level


def set_has_console(value: bool) -> None:
    """Says whether this process has the console. What it sends there itself comes before what it takes; the lines of
    any other process have no such order, so that one waits until they are received."""
    global _has_console
    _has_console = value


def show(line: Line) -> None:
    """Writes a line to standard output, as a bar where it has one and that is a terminal."""
    if line.level < _shown_from:
        return
    if line.has_bar and line.fraction != 1 and shows_progress():
        echo_progress(line.text, line.fraction)
    elif line.is_plain:
        clock = time.strftime("%H:%M:%S", time.localtime(line.created))
        echo(f"{clock} {_MARKS.get(line.level, '')}{line.text}")


def log_progress(logger: logging.Logger, text: str, fraction: float | None, *, is_plain: bool = True) -> None:
    """Logs how far some work is (None: not known). `is_plain`: also where the console has no bar."""
    logger.info(text, extra={"has_bar": True, "fraction": fraction, "is_plain": is_plain})


def stage_label(folder: str) -> str:
    """The opening of the lines about a folder of a run: `[train paft/seed0]` for train/paft-s0."""
    stage, _, rest = folder.partition("/")
    of_model = re.fullmatch(r"(.+)-s(\d+)", rest) if stage == "train" else None
    shown = f"{of_model[1]}/seed{of_model[2]}" if of_model else rest
    return f"[{stage}{f' {shown}' if shown else ''}]"


def _actor() -> Any:
    """The actor of this job's console; None where the job has none. Ray is never imported for it: a process without it
    has no console."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    try:
        return ray.get_actor(ACTOR)
    except ValueError:
        return None
