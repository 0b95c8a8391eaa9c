"""What `paft run`, `paft sweep` and the command of every stage do. Ray and torch are imported where they are used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING

from paft_ray.cli.resources import awaited_resources, seconds
from paft_ray.compat.lazy_imports import uncollected
from paft_ray.config import Config, load_config
from paft_ray.echo import echo
from paft_ray.errors import UserError
from paft_ray.stages.registry import ALL, STAGES, Stage, stages_of, started_by
from paft_ray.storage.stage_keys import check_accepted

if TYPE_CHECKING:
    from paft_ray.stages.resolved_run import ResolvedRun
    from paft_ray.storage.run_lock import Lease
    from paft_ray.storage.store import Store


def run_stage(
    name: str,
    path: str,
    overrides: Sequence[str] | None,
    *,
    force: bool = False,
    accept: Sequence[str] = (),
    dry_run: bool = False,
    address: str | None = None,
    wait: str = "0",
) -> None:
    """One stage, `sweep`, or all stages for `run`. `path`: of the configuration; `report` also takes the folder or URI
    of a run, whose configuration it then uses."""
    check_accepted(accept)
    wait_s = seconds(wait)
    config = _config(name, path, overrides or [], dry_run=dry_run)
    if config is not None and dry_run:
        from paft_ray.cli.dry_run import plan

        echo(plan(config, name))
        return
    with uncollected():
        from paft_ray.cli.preflight import check
        from paft_ray.cli.session import ray_session
        from paft_ray.cli.signals import interruptible
        from paft_ray.stages.precision import with_known_precision
        from paft_ray.stages.resolved_run import ResolvedRun
        from paft_ray.storage.run_lock import hold
        from paft_ray.storage.store import Store

        given = ResolvedRun.load(Store(path)) if config is None else ResolvedRun.of(config)
        given = replace(given, accept=tuple(accept))
        resolved = check(given, name, local=not (address or os.environ.get("RAY_ADDRESS")), force=force)

    run, stages = resolved.store, stages_of(name, resolved.config)
    uses_ray = any(stage.uses_ray for stage in stages)
    with (
        interruptible(_remedy(run.name, force=force)),
        hold(run, name) as lease,
        ray_session(address) if uses_ray else nullcontext(),
        awaited_resources(resolved.config, name, wait_s) if uses_ray else nullcontext(),
    ):
        resolved = with_known_precision(resolved, started_by(name, resolved.config))
        _stages(name, resolved, lease, force=force)
    _say_where(name, run, stages)


def _config(name: str, path: str, overrides: Sequence[str], *, dry_run: bool) -> Config | None:
    """The configuration; None where `path` is a run, which holds its own."""
    if name == "report" and ("://" in path or Path(expanduser(path)).is_dir()):
        if overrides or dry_run:
            raise UserError(
                f"paft report {path}: a run's settings are those that it was made with; leave --set and --dry-run out"
            )
        return None
    return load_config(path, overrides)


def _remedy(run: str, *, force: bool) -> str:
    """What to do after an interrupt."""
    again = "the same command without --force" if force else "the same command again"
    return f"start {again}: finished stages of run {run} are kept, training resumes from its newest checkpoint"


def _say_where(name: str, run: Store, stages: Sequence[Stage]) -> None:
    """Prints the figures, if there is a report, and the place to look at."""
    if any(stage.name == "report" for stage in stages):
        from paft_ray.cli.summary import print_summary

        print_summary(run)
    page = stages[-1].page
    echo(f"{name}: {run.uri(page) if page else run.root}")


def _stages(name: str, resolved: ResolvedRun, lease: Lease, *, force: bool) -> None:
    """What a run is loaded from is that of the last command that was not refused."""
    with uncollected():
        from paft_ray.stages import pipeline
        from paft_ray.stages.stage_errors import named

    refused = False
    try:
        if name == ALL:
            pipeline.run_all(resolved, force=force)
        else:
            pipeline.run_stage(STAGES[name], resolved, force=force)
    except UserError:
        refused = True
        raise
    finally:
        if not (refused or lease.lost):
            with named(resolved.store, name):
                resolved.write()
