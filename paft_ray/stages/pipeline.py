"""All stages in order."""

from __future__ import annotations

from collections.abc import Callable

from paft_ray.artifacts import Manifest, Run
from paft_ray.config import Config
from paft_ray.stages import evaluate, prepare, report, score, synthesize, train

Stage = Callable[..., Manifest]

STAGES: dict[str, Stage] = {
    "prepare": prepare.run,
    "synthesize": synthesize.run,
    "score": score.run,
    "train": train.run,
    "evaluate": evaluate.run,
    "report": report.run,
}


def run_all(config: Config, run: Run, *, force: bool = False) -> None:
    """Every stage, in one Ray session; finished ones are kept."""
    for name, stage in STAGES.items():
        if name == "score" and not config.score.enabled:
            continue
        stage(config, run, force=force)
