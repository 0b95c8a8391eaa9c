"""`paft robustness --submit`: a measurement as a Ray job."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paft_ray.cli.preflight import check_job_path
from paft_ray.cli.robustness import Request, check_request, config_of
from paft_ray.cli.robustness_checks import beside
from paft_ray.cli.secrets import check_arguments
from paft_ray.cli.shipping import definitions, shippable
from paft_ray.cli.submit import not_shipped, run_job
from paft_ray.echo import echo
from paft_ray.errors import UserError
from paft_ray.robustness.models import split_name
from paft_ray.robustness.named_endpoint import is_file
from paft_ray.robustness.suites import FILES
from paft_ray.tasks.task import Task, load_task


@dataclass(frozen=True, kw_only=True)
class MeasurementJob:
    """The same command on the cluster."""

    arguments: tuple[str, ...]
    """Of `paft robustness`."""
    out: str
    files: tuple[str, ...]
    """Task, templates, rows, endpoints, graders and baseline at relative paths."""

    @property
    def base(self) -> str:
        """Submission id without the number of the attempt: a function of where the results go."""
        return f"robustness-{hashlib.sha256(self.out.rstrip('/').encode()).hexdigest()[:8]}"

    @property
    def settings(self) -> dict[str, Any]:
        """What two submits of one measurement must have in common."""
        shipped = {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in self.files}
        return {"arguments": list(self.arguments), "files": shipped}

    @property
    def entrypoint(self) -> str:
        """Shell command of the job."""
        return shlex.join(["python", "-m", "paft_ray", "robustness", *self.arguments])

    @property
    def texts(self) -> Mapping[str, str]:
        """None are made."""
        return {}


def submit_robustness(request: Request, *, address: str | None, wait: str) -> int:
    """Exit code of the job, which is followed. Raises `UserError` before the cluster is reached for bad input."""
    return run_job(job(request, wait=wait), follow=True, address=address)


def job(request: Request, *, wait: str = "0") -> MeasurementJob:
    """The checked job. Raises `UserError` for bad input, and for paths that the job would not find."""
    check_job_path(f"--out {request.out}", request.out, "--out /shared/robustness")
    if request.junit and ("://" in request.junit or not Path(request.junit).is_absolute()):
        raise UserError(f"--junit {request.junit}: a job's own folder goes away with it; give an absolute path")
    for model in [*_models(request), *filter(None, [request.base])]:
        _check_place(model)
    task = load_task(request.task)
    rows = [path for path in [request.data or _test_rows(task)] if path]
    are_here = bool(rows) and all(path.startswith("builtin:") or _may_be_read(path) for path in rows)
    arguments = (*_arguments(request), *([] if wait == "0" else [f"--wait-resources={wait}"]))
    check_arguments(arguments)
    check_request(request, with_rows=are_here, with_runs=not any(map(_may_be_run_elsewhere, _models(request))))
    if not are_here and (rows or "test" in task.sources):
        echo("submit: the rows are not on this machine; the job checks them before anything starts")
    return MeasurementJob(
        arguments=arguments,
        out=request.out,
        files=shippable([*_named(request, task), *rows]),
    )


def _check_place(model: str) -> None:
    """Raises `UserError` for a model, or a run with an arm, in a folder at a relative path."""
    place = model.removesuffix(":chat")
    if place != "demo" and not Path(place).is_absolute() and any(map(os.path.isdir, (place, place.rpartition(":")[0]))):
        raise not_shipped(model)


def _may_be_run_elsewhere(model: str) -> bool:
    """Whether it may name an arm of a run in a folder that this machine does not see."""
    place, mark, arm = model.rpartition(":")
    return bool(mark) and Path(place).is_absolute() and "/" not in arm and arm != "chat" and not Path(place).is_dir()


def _may_be_read(path: str) -> bool:
    """Rows at a relative path have to be here: they are shipped."""
    return "://" not in path and (not Path(path).is_absolute() or Path(path).is_file())


def _test_rows(task: Task) -> str | None:
    source = task.sources.get("test")
    return source.path if source else None


def _named(request: Request, task: Task) -> Iterator[str]:
    """Files that the request names, but for its rows."""
    yield from definitions(config_of(request))
    yield from filter(is_file, _models(request))
    yield from (each for each in request.suite if each.endswith(FILES))
    if task.held_out_templates:
        yield task.held_out_templates
    if request.baseline and "://" not in request.baseline:
        yield from beside(request.baseline)


def _arguments(request: Request) -> Iterator[str]:
    """What the command line was, paths in the folder that it was given in relative to it, home folders as their paths:
    the job may run under another user."""
    yield from (f"{name}={model}" if name else model for name, model in map(split_name, request.models))
    yield from (f"--task={_inside(request.task)}", f"--out={request.out}", f"--rows={request.num_rows}")
    yield from (f"--suite={_inside(each)}" for each in request.suite)
    yield from (f"--set={each}" for each in request.overrides)
    for name, value in (
        ("data", request.data and _inside(request.data)),
        ("base", request.base),
        ("fail-below", request.fail_below),
        ("baseline", request.baseline and _inside(request.baseline)),
        ("junit", request.junit),
    ):
        if value:
            yield f"--{name}={value}"
    if request.chat:
        yield "--chat"


def _models(request: Request) -> list[str]:
    return [split_name(text)[1] for text in request.models]


def _inside(path: str) -> str:
    return path if Path(path).is_absolute() or "://" in path else os.path.normpath(path)
