"""One trial of a sweep as a Ray Tune function, which fits one Ray Train run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from paft_ray.log import get_logger
from paft_ray.prompts.grouping import groups_key
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.stages import train
from paft_ray.stages.train import clear_damaged, training_outputs
from paft_ray.storage.artifacts import ROWS
from paft_ray.storage.stage_cache import Manifest, cached
from paft_ray.storage.store import Store
from paft_ray.storage.versions import decided_by
from paft_ray.sweep.trials import Setup, Trial, chosen
from paft_ray.training.job import Training
from paft_ray.training.step_metrics import read_metrics

_log = get_logger(__name__)
METRIC, TIME = "validation_loss", "step"
_VALIDATIONS = 8  # at least so many in a training that is compared on the way


class _Forward(TuneReportCallback):
    """Hands validations on the way to Tune's scheduler; the trial itself reports the last one, once its weights are
    written."""

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        if METRIC in metrics[0] and metrics[0][TIME] < self.num_steps:
            super().after_report(run_context, [{name: metrics[0][name] for name in (TIME, METRIC)}], checkpoint)


def run_trial(config: dict[str, Any], setup: Setup, listed: Sequence[Trial]) -> None:
    """A Tune function that fits one Ray Train run and reports its validation losses and at last its final losses."""
    trial = chosen(listed, config)
    run = setup.resolved.store
    scheduled = setup.resolved.config.sweep.scheduler is not None
    templates = setup.pool.take(trial.size, trial.subset_seed)
    if scheduled:
        num_steps, _ = _training(setup, trial, templates).plan
        _repeat_reports(run, trial, num_steps)
    key = {
        **decided_by("train", train.RESULTS_VERSION),
        "inputs": setup.inputs,
        "settings": dict(trial.settings),
        "prompts": templates.content_hash,
        **groups_key(templates, trial.train(setup.resolved.config.train).sampling.over),
    }
    fit = partial(_fit, setup, trial, templates, scheduled)
    on_damage = partial(clear_damaged, run, trial.folder)
    result = cached(run, trial.folder, key, fit, accept=setup.resolved.accept, announce=_log.info, on_damage=on_damage)
    tune.report(
        {name: value for name, value in result.items() if name in (METRIC, "final_loss", "tokens_per_s")}
        | {TIME: result["num_steps"]}
    )


def _repeat_reports(run: Store, trial: Trial, num_steps: int) -> None:
    """Reports to the scheduler what the trial reported before an interruption: metrics are stored with every checkpoint
    that it resumes from. That of the last step is reported once the weights are written."""
    for row in read_metrics(run.below(trial.folder)):
        if METRIC in row and row[TIME] < num_steps:
            tune.report({TIME: row[TIME], METRIC: row[METRIC]})


def _fit(setup: Setup, trial: Trial, templates: PromptSet, scheduled: bool) -> Manifest:
    """The manifest of a trained trial; where trials are compared they are validated at the end and, for a scheduler, on
    the way."""
    from paft_ray.training.launch import fit

    training = _training(setup, trial, templates)
    num_steps, _ = training.plan
    (result,) = fit([training], callbacks=[_Forward(num_steps)] if scheduled else [])
    validated = [row[METRIC] for row in result.history if METRIC in row]
    values = result.model_dump(exclude={"fingerprint", "exported_step", "history", "time_s"})
    return {
        **values,
        "train_time_s": result.time_s,
        "outputs": training_outputs(setup.resolved.store, trial.folder, result),
        "num_templates": len(templates),
        "subset_seed": trial.subset_seed,
        **({METRIC: validated[-1]} if validated else {}),
    }


def _training(setup: Setup, trial: Trial, templates: PromptSet) -> Training:
    """What a trial trains, validated on the way where trials are compared."""
    config, run = setup.resolved.config, setup.resolved.store
    training = Training(
        task=setup.resolved.task,
        data=ROWS["train"].read(run),
        templates=templates,
        config=trial.train(config.train),
        model=config.model,
        model_files=setup.resolved.model,
        seed=config.train.seeds[0],
        run=run,
        folder=trial.folder,
        validation=ROWS["validation"].read(run) if len(setup.validation) else None,
        validation_templates=setup.validation,
        tracking=config.tracking,
        results_version=train.RESULTS_VERSION,
    )
    if not config.sweep.compares or training.config.validate_every:
        return training
    num_steps, _ = training.plan
    every = max(1, num_steps // _VALIDATIONS)
    return replace(training, config=training.config.model_copy(update={"validate_every": every}))
