"""Stages of a run as a user starts them, each a command of its own, and the rows of its training."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

from paft_ray.config import load_config
from paft_ray.models.encoder import make_encoder
from paft_ray.models.resolve import resolve_model
from paft_ray.prompts.grouping import groups, resolve_sampling
from paft_ray.prompts.sampling import make_draw
from paft_ray.stages.train import arm_prompts
from paft_ray.storage.artifacts import PROMPT_SET
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task
from paft_ray.training.example_builder import ExampleBuilder

CONFIG = "jobs/configs/demo.yaml"


def command(stage: str, settings: Iterable[str]) -> list[str]:
    """`paft STAGE` on the demo's configuration with other settings."""
    return [sys.executable, "-m", "paft_ray", stage, CONFIG, *(part for s in settings for part in ("--set", s))]


def paft(stage: str, settings: Iterable[str]) -> None:
    """Runs it, to its end and in silence."""
    subprocess.run(command(stage, settings), check=True, stdout=subprocess.DEVNULL)


def row_maker(settings: Iterable[str]) -> ExampleBuilder:
    """What makes the rows of arm `paft` of a run whose prompts are there."""
    config = load_config(CONFIG, list(settings))
    run, task, path = (
        Store(config.storage).below(config.name),
        load_task(config.task),
        resolve_model(config.model.id, config.model.revision),
    )
    found = PROMPT_SET.read(run)
    templates, sampling = arm_prompts(config, run, "paft", found), resolve_sampling(config, found).train.sampling
    return ExampleBuilder(
        table=run.read_table("prepare/train.parquet"),
        templates=templates.templates,
        encoder=make_encoder(task, config.model, path),
        draw=make_draw(sampling, seed=0, groups=groups(templates, sampling.over)),
        seed=0,
        num_positions=10**9,
    )
