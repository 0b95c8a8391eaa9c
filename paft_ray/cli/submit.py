"""`paft submit`: what `ray job submit` does, with this package, the configuration and `my/` as the only things
shipped."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from paft_ray.cli.connectivity import reach_job_api
from paft_ray.cli.env_defaults import use_token
from paft_ray.cli.options import package_version
from paft_ray.cli.preflight import check_inputs, check_job_storage
from paft_ray.cli.resources import seconds
from paft_ray.cli.shipping import named_files, resolved, write_job
from paft_ray.cli.signals import interruptible
from paft_ray.config import Config, load_config
from paft_ray.echo import echo
from paft_ray.errors import StageError, UserError, one_line, some
from paft_ray.stages.prepare import sources
from paft_ray.stages.registry import COMMANDS
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.stage_keys import check_accepted, differences
from paft_ray.tasks.task import Task

STAGES = (*COMMANDS, "doctor")
_METADATA = "paft"
_SHOWN = 8
_POLL_S = 1.0
_COLORS = re.compile(r"\x1b\[[0-9;]*m")


class Job(Protocol):
    """What is asked of the cluster."""

    @property
    def base(self) -> str:
        """Submission id without the number of the attempt: a function of what two jobs must not do at once."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What two submits of one job must have in common."""
        ...

    @property
    def entrypoint(self) -> str:
        """Its shell command, which its dashboard shows."""
        ...

    @property
    def texts(self) -> Mapping[str, str]:
        """Path in the job's folder -> content, of files that are made for it."""
        ...

    @property
    def files(self) -> tuple[str, ...]:
        """Small files at relative paths, shipped as they are."""
        ...


@dataclass(frozen=True, kw_only=True)
class Request:
    """One or all stages of a run, as a job."""

    stage: str
    config: Config
    config_path: str
    """As given; below the working folder, or anywhere."""
    force: bool = False
    accept: tuple[str, ...] = ()
    """Entries of keys in which finished stages may differ."""
    wait_resources: str = "0"
    """How long the job waits for nodes."""
    files: tuple[str, ...] = ()
    """Small files that the configuration names by relative paths: task, plugins, templates, and rows in `my/`."""

    @property
    def base(self) -> str:
        """Submission id without the number of the attempt: a function of name, stage and storage."""
        place = hashlib.sha256(self.config.storage.rstrip("/").encode()).hexdigest()[:8]
        return f"{self.config.name}-{self.stage}-{place}"

    @property
    def settings(self) -> dict[str, Any]:
        """What two submits of one run must have in common; defaults left out, since they may depend on the machine."""
        return {
            "config": self.config.model_dump(mode="json", exclude_unset=True),
            "force": self.force,
            "accept": list(self.accept),
            "files": {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in self.files},
        }

    @property
    def shipped_config(self) -> str:
        """Path of the resolved configuration in the job's folder."""
        inside = os.path.relpath(self.config_path)
        return f"config/{Path(self.config_path).name}" if inside.startswith("..") else inside

    @property
    def texts(self) -> Mapping[str, str]:
        """The resolved configuration."""
        return {self.shipped_config: resolved(self.config)}

    @property
    def entrypoint(self) -> str:
        """Shell command of the job: overrides are in the configuration."""
        options = [*(["--force"] if self.force else []), *(f"--accept={entry}" for entry in self.accept)]
        if self.wait_resources != "0":
            options.append(f"--wait-resources={self.wait_resources}")
        return shlex.join(["python", "-m", "paft_ray", self.stage, self.shipped_config, *options])


def submit(
    path: str,
    stage: str,
    overrides: Sequence[str],
    *,
    force: bool,
    follow: bool,
    address: str | None,
    accept: Sequence[str] = (),
    wait: str = "0",
) -> int:
    """Exit code of the job, 0 where it is not followed. Raises `UserError` before
    the cluster is reached for bad input."""
    return run_job(
        request(path, stage, overrides, force=force, accept=accept, wait=wait), follow=follow, address=address
    )


def run_job(asked: Job, *, follow: bool, address: str | None) -> int:
    """Starts a job or attaches to it; its exit code, 0 where it is not followed. Raises `UserError` where the cluster
    does not answer or refuses it."""
    if address:
        os.environ["RAY_API_SERVER_ADDRESS"] = address  # Ray would take the variable before the argument
    reach_job_api(address)
    client = _client()
    job = start(client, asked)
    echo(
        f"submit: job {job}; follow it with: ray job logs --follow {job}{_at(address)}; stop it with: ray job "
        f"stop {job}{_at(address)}"
    )
    if not follow:
        return 0
    again = "follow it again with the same command, stop it with"
    with interruptible(f"job {job} keeps running; {again}: ray job stop {job}{_at(address)}"):
        return watch(client, job)


def request(
    path: str, stage: str, overrides: Sequence[str], *, force: bool, accept: Sequence[str] = (), wait: str = "0"
) -> Request:
    """The checked request. Raises `UserError` for an unknown stage, bad configuration, and paths that a job would not
    find."""
    if stage not in STAGES:
        raise UserError(f"--stage {stage}: unknown; allowed: {', '.join(STAGES)}")
    if seconds(wait) and stage == "doctor":
        raise UserError("--wait-resources: doctor says what is there now; leave it out")
    if stage == "doctor" and (force or accept):
        raise UserError("--force, --accept: doctor changes nothing; leave them out")
    check_accepted(accept)
    config = load_config(path, overrides)
    check_job_storage(config.storage)
    resolved_run = ResolvedRun.of(config)
    config, task = resolved_run.config, resolved_run.task
    files = named_files(config, task)
    _check_models(config)
    if _rows_are_here(config, task):
        check_inputs(resolved_run)
    else:
        check_inputs(resolved_run, rows=False)
        echo("submit: the rows are not on this machine; the job checks them before anything starts")
    return Request(
        stage=stage,
        config=config,
        config_path=path,
        force=force,
        accept=tuple(accept),
        wait_resources=wait,
        files=files,
    )


def start(client: Any, asked: Job) -> str:
    """Submission id of the job: the one that is still going with the same settings, else a new attempt. Raises
    `UserError` where the settings differ."""
    job, going = attempt(client.list_jobs(), asked)
    if going:
        echo(f"submit: job {job} is still going with these settings; attached")
        return job
    with packed(asked) as folder:
        try:
            client.submit_job(
                entrypoint=asked.entrypoint,
                submission_id=job,
                runtime_env={"working_dir": str(folder)},
                metadata={_METADATA: json.dumps(asked.settings, sort_keys=True)},
            )
        except RuntimeError as error:
            found, going = attempt(client.list_jobs(), asked)  # another submit of the same run may have been faster
            if not going:
                raise UserError(
                    f"job {job}: the cluster refused it ({one_line(error)[:200]}); fix that and submit again"
                ) from None
            echo(f"submit: job {found} was submitted at the same moment with these settings; attached")
            return found
    return job


def attempt(jobs: Sequence[Any], asked: Job) -> tuple[str, bool]:
    """(submission id, whether that job is still going): of the run's job that is going, else of the next attempt.
    Raises `UserError` for other settings."""
    own = {_attempt_number(job.submission_id, asked.base): job for job in jobs}
    own.pop(0, None)
    for number, job in sorted(own.items(), reverse=True):
        if job.status.is_terminal():
            continue
        differing = differences(json.loads((job.metadata or {}).get(_METADATA, "{}")), asked.settings)
        if differing:
            raise UserError(
                f"job {asked.base}-{number} is still going with other settings ({'; '.join(differing)}); "
                f"wait for it, stop it with `ray job stop {asked.base}-{number}`, or write elsewhere (name, storage or "
                "--out)"
            )
        return job.submission_id, True
    return f"{asked.base}-{max(own, default=0) + 1}", False


def watch(client: Any, job: str) -> int:
    """Prints the job's log until it ends; its exit code (1 where it was stopped or crashed without one). Raises
    `StageError` where the cluster is lost."""

    async def tail() -> None:
        async for lines in client.tail_job_logs(job):
            echo(_COLORS.sub("", lines).replace("\r", "\n"), end="")

    from aiohttp import ClientError

    try:
        asyncio.run(tail())
        while not (found := client.get_job_info(job)).status.is_terminal():
            time.sleep(_POLL_S)
    except (OSError, RuntimeError, ClientError) as error:
        raise StageError(
            f"job {job}: the connection to the cluster is lost ({one_line(error)[:200]}), the job continues without it"
        ) from None
    status = str(found.status)
    if status == "SUCCEEDED":
        echo(f"submit: job {job} succeeded")
        return 0
    echo(
        f"paft: job {job} {status.lower()}: {one_line(found.message)[:200]}; submit again (without --force) for the "
        "next attempt, finished stages are kept",
        err=True,
    )
    return found.driver_exit_code or 1


@contextmanager
def packed(asked: Job) -> Iterator[Path]:
    """A temporary folder with what the job ships; says what it holds. Raises `UserError` for what must not be
    shipped."""
    with tempfile.TemporaryDirectory(prefix="paft-submit-") as scratch:
        folder = Path(scratch)
        own, size = write_job(folder, asked.texts, asked.files)
        count = sum(file.is_file() for file in folder.rglob("*"))
        echo(f"submit: ships {count} files, {size:.2f} MiB: paft_ray {package_version()}, {some(own, _SHOWN)}")
        yield folder


def _client() -> Any:
    """A client of the job API, with the token that Ray finds. Raises `UserError` where no cluster answers or lets it
    in."""
    use_token()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient()
    except AuthenticationError as error:
        raise UserError(
            f"--address: the cluster asks for a token ({one_line(error)[:200]}); set RAY_AUTH_TOKEN, or put it "
            "into ~/.ray/auth_token"
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--address: no job API answers ({one_line(error)[:200]}); give http://HOST:8265, through `ray "
            "dashboard` where it is closed"
        ) from None


def _check_models(config: Config) -> None:
    for model, _ in config.models:
        if model.startswith(".") or (not Path(model).is_absolute() and model != "demo" and Path(model).is_dir()):
            raise not_shipped(model)


def not_shipped(model: str) -> UserError:
    """For a model in a folder at a relative path."""
    return UserError(
        f"model {model[:200]}: a folder is not shipped with a job; give an absolute path that all nodes reach, or a "
        "Hugging Face id"
    )


def _rows_are_here(config: Config, task: Task) -> bool:
    """Whether every row file can be looked into from this machine without the cluster's storage."""
    paths = [source.path for source in sources(task, config.data).values() if source.path is not None]
    return all(path.startswith("builtin:") or ("://" not in path and Path(path).is_file()) for path in paths)


def _attempt_number(submission_id: str | None, base: str) -> int:
    """0 for a job of another run."""
    head, _, number = (submission_id or "").rpartition("-")
    return int(number) if head == base and number.isdecimal() else 0


def _at(address: str | None) -> str:
    return f" --address {address}" if address else ""
