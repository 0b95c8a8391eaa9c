"""Runs stages: one, or all in order."""

from __future__ import annotations

from paft_ray.log import get_logger, stage_label
from paft_ray.stages.registry import ALL, Stage, stages_of
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.stages.stage_errors import named
from paft_ray.storage.stage_cache import Manifest

_log = get_logger(__name__)


def run_all(resolved: ResolvedRun, *, force: bool = False) -> None:
    """Every stage, in one Ray session; finished ones are kept."""
    stages = stages_of(ALL, resolved.config)
    for number, stage in enumerate(stages, start=1):
        _log.info(f"{stage_label(stage.name)} stage {number} of {len(stages)}")
        run_stage(stage, resolved, force=force)


def run_stage(stage: Stage, resolved: ResolvedRun, *, force: bool = False) -> Manifest:
    """The manifest of one stage; what goes wrong in it names stage and run."""
    with named(resolved.store, stage.name):
        return stage.make(resolved, force=force)
