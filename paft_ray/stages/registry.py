"""All stages in order."""

from __future__ import annotations

from collections.abc import Callable

from paft_ray.log import get_logger, stage_label
from paft_ray.stages import evaluate, prepare, report, score, synthesize, train
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.stages.stage_errors import named
from paft_ray.storage.stage_cache import Manifest

Stage = Callable[..., Manifest]
_log = get_logger(__name__)

STAGES: dict[str, Stage] = {
    "prepare": prepare.run,
    "synthesize": synthesize.run,
    "score": score.run,
    "train": train.run,
    "evaluate": evaluate.run,
    "report": report.run,
}


def run_all(resolved: ResolvedRun, *, force: bool = False) -> None:
    """Every stage, in one Ray session; finished ones are kept."""
    names = [name for name in STAGES if name != "score" or resolved.config.score.enabled]
    for number, name in enumerate(names, start=1):
        _log.info(f"{stage_label(name)} stage {number} of {len(names)}")
        run_stage(name, STAGES[name], resolved, force=force)


def run_stage(name: str, stage: Stage, resolved: ResolvedRun, *, force: bool = False) -> Manifest:
    """The manifest of one stage; what goes wrong in it names stage and run."""
    with named(resolved.store, name):
        return stage(resolved, force=force)
