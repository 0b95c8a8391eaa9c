"""Runs stages: one, or all in order."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from paft_ray.compat.ray import is_own
from paft_ray.log import get_logger, stage_label
from paft_ray.models.files import most_tokens
from paft_ray.stages.idle_engines import have_room
from paft_ray.stages.registry import ALL, Stage, stages_of
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.stages.stage_errors import named
from paft_ray.storage.stage_cache import Manifest, unfinish

if TYPE_CHECKING:
    from paft_ray.inference.engine_pool import EnginePool

_log = get_logger(__name__)


def run_all(resolved: ResolvedRun, *, force: bool = False) -> None:
    """Every stage, in one Ray session; finished ones are kept. Stages share their engines, which end as soon as no
    later stage asks them, and where a training would not have room beside them. `force`: none counts as finished from
    the start, so that a run which ends on the way is resumed without it."""
    stages = stages_of(ALL, resolved.config)
    if force:
        unfinish(resolved.store, [stage.name for stage in stages])
    with _shared_engines(resolved) as engines:
        for number, stage in enumerate(stages, start=1):
            asked = any("engine" in later.starts for later in stages[number - 1 :])
            if not asked or ("train" in stage.starts and not _may_wait(engines, resolved)):
                engines.stop()
            _log.info(f"{stage_label(stage.name)} stage {number} of {len(stages)}")
            _run(stage, resolved, force=force)


def run_stage(stage: Stage, resolved: ResolvedRun, *, force: bool = False) -> Manifest:
    """The manifest of one stage; what goes wrong in it names stage and run."""
    with _shared_engines(resolved) if stage.starts == ("engine",) else nullcontext():
        return _run(stage, resolved, force=force)


def _run(stage: Stage, resolved: ResolvedRun, *, force: bool) -> Manifest:
    with named(resolved.store, stage.name):
        return stage.make(resolved, force=force)


def _shared_engines(resolved: ResolvedRun) -> AbstractContextManager[EnginePool]:
    """Engines for all requests of the stages to the model."""
    from paft_ray.inference.engine_pool import shared_engines

    return shared_engines(resolved.model, longest_request(resolved))


def longest_request(resolved: ResolvedRun) -> int:
    """Most tokens of a request to the model, with its answer."""
    config, task = resolved.config, resolved.task
    label = max((len(label.encode()) + 1 for label in task.label_texts), default=0)  # no token is shorter than a byte
    longest = config.model.max_prompt_tokens + max(task.max_answer_tokens, config.evaluate.max_answer_tokens, label)
    return min(longest, most_tokens(resolved.model.path) or longest)


def _may_wait(engines: EnginePool, resolved: ResolvedRun) -> bool:
    """Whether the running engines serve the stages after a training, for which there is room beside them. Never on a
    cluster that others may use: jobs whose engines wait could keep each other's trainings from starting."""
    import ray

    if engines.running is None or engines.running.base != resolved.model or not is_own():
        return False
    return have_room(resolved.config, resolved.model.path, ray.cluster_resources())
