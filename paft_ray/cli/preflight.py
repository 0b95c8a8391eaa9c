"""Everything that a user can get wrong, refused before Ray starts."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

from paft_ray.cli.preflight_model import check_model
from paft_ray.cli.resources import check_here
from paft_ray.cli.secrets import check_no_secrets
from paft_ray.compat.ray import is_submitted_job
from paft_ray.config import Config, GeneratorConfig
from paft_ray.config.keys import read_key
from paft_ray.errors import UserError
from paft_ray.generators.grammar.words import words_of
from paft_ray.log import get_logger
from paft_ray.models.files import shapes
from paft_ray.report.arm_order import check_primary
from paft_ray.stages import prepare
from paft_ray.stages.registry import ALL, STAGES, missing_inputs, stages_of, started_by
from paft_ray.stages.resolved_run import ResolvedRun, check_version
from paft_ray.stages.user_templates import Templates, user_templates
from paft_ray.storage.manifests import SYNTHESIZE
from paft_ray.storage.outputs import manifest_path
from paft_ray.storage.store import Store
from paft_ray.sweep.trials import listed_trials
from paft_ray.tracking.trackers import check as check_trackers

_log = get_logger(__name__)


def check(resolved: ResolvedRun, command: str, *, local: bool, force: bool = False) -> ResolvedRun:
    """The run with its models found, after task, files, templates, storage, models and (on one machine) resources are
    found good. `force`: finished stages are made again. Raises `UserError`."""
    config, stages = resolved.config, stages_of(command, resolved.config)
    if not any(stage.uses_ray for stage in stages):
        check_no_secrets(config, resolved.task)
        _check_prepared(resolved, command)
        return resolved
    templates = check_inputs(resolved)
    if local:
        check_here(config, command)
    elif is_submitted_job():
        check_job_storage(config.storage)
    if command == "sweep":
        _check_sweep(resolved, templates)
    _check_prepared(resolved, command)
    if any(stage.reads_model for stage in stages):
        asks = any(stage.asks_generators for stage in stages)
        if asks and (force or not resolved.store.exists(manifest_path(SYNTHESIZE))):
            warn_of_writers(config, templates)
            if local:
                check_keys(config.prompts.asked_models)
        resolved = resolved.with_models()
        for generator in resolved.models[1:]:
            shapes(generator.path)
        trains = "train" in started_by(command, config)
        check_model(config, resolved.task, resolved.model.path, templates, trains=trains)
    Store.at(resolved.store.root)  # makes it, so it comes last: what is refused leaves nothing behind
    return resolved


def check_job_storage(storage: str) -> None:
    """Raises `UserError` as `check_job_path`."""
    check_job_path(f"storage={storage}", storage, "--set storage=/shared/runs")


def check_job_path(given: str, path: str, example: str) -> None:
    """Raises `UserError`, which begins with what was `given`, for a relative path, which would be in the job's own
    folder, and for one in a home, which is another one there."""
    if path.startswith("~"):
        raise UserError(f"{given}: the job may run under another user; write the folder out, e.g. {example}")
    if "://" not in path and not Path(path).is_absolute():
        raise UserError(
            f"{given}: a job's own folder goes away with it; give a path or URI that all nodes reach, e.g. {example}"
        )


def _check_prepared(resolved: ResolvedRun, command: str) -> None:
    """Raises `UserError` where the run lacks what a stage reads that is run alone, naming it, or a tracker does not
    answer."""
    config, run = resolved.config, resolved.store
    check_version(run)
    for path, maker in {} if command == ALL else missing_inputs(STAGES[command], config, run.exists).items():
        raise UserError(
            f"run {run.name}: {path} is missing; run stage {maker} first (`paft {maker} CONFIG`, or `paft run CONFIG` "
            "for all)"
        )
    if any(stage.is_tracked for stage in stages_of(command, config)):
        check_trackers(config.tracking, config.insecure_hosts)


def warn_of_writers(config: Config, templates: Templates) -> None:
    """Says where nothing that models are about to write will be used."""
    if config.prompts.writing_models and not templates[0]:
        _log.warning(
            "prompts: without prompts.seed_templates no judge is trusted, so what models write is used only where a "
            "person accepts it"
        )


def check_keys(models: Iterable[GeneratorConfig]) -> None:
    """Raises `UserError` where an endpoint's key is not in this process's environment, which a local Ray inherits, or
    can be no key."""
    for generator in models:
        name = generator.endpoint.api_key_env if generator.endpoint else None
        if name and not read_key(name, os.environ):
            raise UserError(
                f"model {generator.label}: the environment variable {name}, which holds its key, is not set "
                "or is empty; export it"
            )


def _check_sweep(resolved: ResolvedRun, templates: Templates) -> None:
    """Raises `UserError` for settings that a sweep cannot compare trials under."""
    _check_sizes(resolved, templates)
    if (budget := resolved.config.evaluate.budget) < 1:
        raise UserError(f"evaluate.budget={budget:g}: a sweep answers all cells; leave it out, or set it to 1")
    if (export := resolved.config.train.export) != "last":
        raise UserError(
            f"train.export={export}: a sweep compares trials at their last step; leave it out, or set it to last"
        )


def _check_sizes(resolved: ResolvedRun, templates: Templates) -> None:
    """Raises `UserError` for sweep sizes that the prompt set cannot reach even if every candidate is kept, and for a
    searcher that is not installed."""
    config = resolved.config
    listed_trials(config.sweep, most_templates(config, templates))
    searcher = config.sweep.searcher
    if searcher is not None and importlib.util.find_spec(searcher.name) is None:
        raise UserError(
            f"sweep.searcher.name={searcher.name}: the package is not installed; install it on every node (pip "
            f"install {searcher.name})"
        )


def most_templates(config: Config, templates: Templates) -> int:
    """Templates that the trials of a sweep can train on if every candidate is kept."""
    seeds, _ = templates
    aside = config.sweep.num_validation_templates if config.sweep.compares else 0
    return max(0, len(seeds) + config.prompts.num_wanted - aside - num_split_off(config, templates))


def num_split_off(config: Config, templates: Templates) -> int:
    """Templates of the pool that are held out if every candidate is kept; 0 where held-out ones are given."""
    seeds, held_out = templates
    pool = len(seeds) + config.prompts.num_wanted
    return 0 if held_out else max(config.prompts.min_held_out, round(config.prompts.held_out_fraction * pool))


def check_inputs(resolved: ResolvedRun, *, rows: bool = True) -> Templates:
    """The templates that the configuration names. Raises `UserError` for sources, templates and settings that do not go
    with the task; reaches neither a hub nor a cluster.

    `rows`: look into the row files; not where only the cluster reads them.
    """
    config, task = resolved.config, resolved.task
    check_no_secrets(config, task)
    if config.train.export != "last" and not task.label_texts:
        raise UserError(
            f"train.export={config.train.export}: task {task.name} has no labels to measure accuracy with; set "
            "train.export=last"
        )
    check_primary(config.report.primary, config.train.arms)
    _ = task.grader
    if rows:
        prepare.check(config.data, task)
    templates = user_templates(config, task)
    if any(generator.type == "grammar" for generator in config.prompts.generators):
        words_of(task)
    if config.model.truncate_field is not None and config.model.truncate_field not in task.fields:
        raise UserError(
            f"model.truncate_field={config.model.truncate_field}: not a field of task {task.name}; allowed: "
            f"{', '.join(task.fields)}"
        )
    return templates
