"""Ray Tune: trains the trials of a sweep. The only file that knows it.

A Tune function fits one Ray Train run. Tune does not count that run's workers, so the number of trials side by side is
worked out here. What a trial leaves behind decides what is done, not Tune's own state: a finished trial answers from
its manifest, a half-trained one resumes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from paft_ray.config import Config, RangeConfig, TrainConfig
from paft_ray.errors import StageError
from paft_ray.log import get_logger, log_progress
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.stages.stage_errors import reason
from paft_ray.storage.stage_cache import Manifest, cached, finished_below
from paft_ray.storage.store import Store
from paft_ray.sweep.trials import Setup, Trial, num_trials, ranges
from paft_ray.tasks.readers import holds_examples
from paft_ray.training.data_order import plan
from paft_ray.training.job import Training
from paft_ray.training.step_metrics import read_metrics

_log = get_logger(__name__)
METRIC, TIME = "validation_loss", "step"
_SCHEDULERS = {"asha": "async_hyperband", "median_stopping_rule": "median_stopping_rule"}
_VALIDATIONS = 8  # at least so many in a training that is compared on the way


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How the trials ended."""

    finished: dict[str, Trial]
    """Name -> trial, small sizes first."""
    failed: tuple[str, ...]
    stopped: tuple[str, ...]
    """Ended early by the scheduler."""
    reused: tuple[str, ...]
    """Finished before this call."""


def train_trials(setup: Setup, listed: Sequence[Trial], trial: Callable[..., None] | None = None) -> Trained:
    """How the trials ended, after training each; one that fails is reported and does not end the others. `trial`: the
    Tune function. Raises `StageError` where none finished."""
    config, run = setup.resolved.config, setup.resolved.store
    sweep = config.sweep
    before = set(finished_below(run, "sweep"))
    nodes = len([node for node in ray.nodes() if node["Alive"]])
    limit = sweep.max_concurrent or concurrency(config.train, ray.cluster_resources(), nodes)
    progress = _Progress(num_trials(sweep, len(listed)))
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial or _trial, setup=setup, listed=list(listed)), {"CPU": 0.1}),
        param_space=_space(sweep.searcher is not None, len(listed), ranges(sweep)),
        tune_config=tune.TuneConfig(
            metric=METRIC if sweep.compares else None,
            mode="min" if sweep.compares else None,
            num_samples=sweep.num_samples,
            search_alg=_search(config, limit),
            scheduler=_scheduler(config),
        ),
        run_config=tune.RunConfig(name="tune", storage_path=run.uri("sweep"), verbose=0, callbacks=[progress]),
    )
    with _without_tracebacks():
        results = list(tuner.fit())
    if progress.ended < len(results):  # Tune takes Ctrl-C for itself and returns
        raise KeyboardInterrupt
    run.delete("sweep/tune")
    return _sorted_out(run, listed, results, before)


@contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Tune logs pages for every trial that fails; the reason is one line of ours, and the run keeps the traceback."""
    loggers = [logging.getLogger(f"ray.tune.{name}") for name in ("execution.tune_controller", "tune")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _sorted_out(run: Store, listed: Sequence[Trial], results: Sequence[Any], before: set[str]) -> Trained:
    finished: dict[str, Trial] = {}
    failed, stopped = [], []
    for result in results:
        found = chosen(listed, result.config or {})
        if result.error is not None:
            failed.append(found.name)
            _log.warning(f"[sweep {found.name}] failed: {reason(run, f'sweep-{found.name}', result.error)}")
        elif run.exists(f"{found.folder}/manifest.json"):
            finished[found.name] = found
        else:
            stopped.append(found.name)
    if not finished:
        raise StageError("no trial of the sweep finished; the reasons stand above")
    order = sorted(finished.values(), key=lambda found: (found.size, found.subset_seed, found.name))
    return Trained(
        finished={found.name: found for found in order},
        failed=tuple(failed),
        stopped=tuple(stopped),
        reused=tuple(name for name in finished if name in before),
    )


def chosen(listed: Sequence[Trial], config: Mapping[str, Any]) -> Trial:
    """The trial that a point of Tune's search space stands for."""
    return listed[config["trial"]].drawn({name: value for name, value in config.items() if name != "trial"})


def _space(searched: bool, listed: int, drawn: Mapping[str, RangeConfig]) -> dict[str, Any]:
    """Tune's search space: which listed trial, and the settings that are drawn."""
    space: dict[str, Any] = {"trial": tune.choice(range(listed)) if searched else tune.grid_search(list(range(listed)))}
    for name, values in drawn.items():
        space[name] = (
            tune.loguniform(*values.loguniform) if values.loguniform else tune.uniform(*(values.uniform or ()))
        )
    return space


def _search(config: Config, limit: int) -> Any:
    """The search algorithm, with at most `limit` trials at once (`TuneConfig.max_concurrent_trials` does not reach one
    that is given); seeded, so that a sweep that is started again meets the same trials."""
    searcher = config.sweep.searcher
    if searcher is None:
        return tune.search.basic_variant.BasicVariantGenerator(random_state=config.seed, max_concurrent=limit)
    seeded = (
        {"seed": config.seed}
        if searcher.name == "optuna"
        else {"random_state_seed": config.seed}
        if searcher.name == "hyperopt"
        else {}
    )
    found = tune.create_searcher(searcher.name, metric=METRIC, mode="min", **seeded, **searcher.options)
    return tune.search.ConcurrencyLimiter(found, max_concurrent=limit)


def _scheduler(config: Config) -> Any:
    scheduler = config.sweep.scheduler
    if scheduler is None:
        return None
    # The longest time is never reached by a report on the way: a trial that ends by itself is not stopped before its
    # weights are written.
    longest = {"max_t": 2**31} if scheduler.name == "asha" else {}
    return tune.create_scheduler(_SCHEDULERS[scheduler.name], time_attr=TIME, **longest, **scheduler.options)


def concurrency(train: TrainConfig, have: Mapping[str, float], num_nodes: int) -> int:
    """Trials whose workers fit side by side (Tune does not count them), with a CPU left for Ray Data per trial; on CPUs
    one per node, which it fills."""
    by_cpu = int(have.get("CPU", 1) // (train.num_workers * train.cpus_per_worker + 1))
    by_device = (
        int(have.get("GPU", 0) // (train.num_workers * train.gpus_per_worker)) if train.gpus_per_worker else num_nodes
    )
    return max(1, min(by_cpu, by_device))


class _Progress(tune.Callback):
    """One console line per trial that ended."""

    def __init__(self, total: int) -> None:
        self.total, self.ended = total, 0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._report()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._report()

    def _report(self) -> None:
        self.ended += 1
        log_progress(_log, f"[sweep] {self.ended} of {self.total} trials ended", self.ended / self.total)


class _Forward(TuneReportCallback):
    """Hands validations on the way to Tune's scheduler; the trial itself reports the last one, once its weights are
    written."""

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        if METRIC in metrics[0] and metrics[0][TIME] < self.num_steps:
            super().after_report(run_context, [{name: metrics[0][name] for name in (TIME, METRIC)}], checkpoint)


def _trial(config: dict[str, Any], setup: Setup, listed: Sequence[Trial]) -> None:
    """A Tune function that fits one Ray Train run and reports its validation losses and at last its final losses."""
    trial = chosen(listed, config)
    run = setup.resolved.store
    scheduled = setup.resolved.config.sweep.scheduler is not None
    if scheduled:
        _repeat_reports(run, trial)
    templates = setup.pool.take(trial.size, trial.subset_seed)
    key = {"inputs": setup.inputs, "settings": dict(trial.settings), "prompts": templates.content_hash}
    result = cached(run, trial.folder, key, lambda: _fit(setup, trial, templates, scheduled), announce=_log.info)
    tune.report(
        {name: value for name, value in result.items() if name in (METRIC, "final_loss", "tokens_per_s")}
        | {TIME: result["num_steps"]}
    )


def _repeat_reports(run: Store, trial: Trial) -> None:
    """Reports to the scheduler what the trial reported before an interruption: metrics are stored with every checkpoint
    that it resumes from."""
    for row in read_metrics(run.below(trial.folder))[:-1]:
        if METRIC in row:
            tune.report({TIME: row[TIME], METRIC: row[METRIC]})


def _fit(setup: Setup, trial: Trial, templates: PromptSet, scheduled: bool) -> Manifest:
    """The manifest of a trained trial; where trials are compared they are validated at the end and, for a scheduler, on
    the way."""
    from paft_ray.training.launch import fit

    config, run = setup.resolved.config, setup.resolved.store
    data = run.read_table("data/train.parquet", holds_examples)
    settings = trial.train(config.train)
    steps, _ = plan(
        data.num_rows, epochs=settings.num_epochs, steps=settings.num_steps, global_batch=settings.global_batch
    )
    if config.sweep.compares and not settings.validate_every:
        settings = settings.model_copy(update={"validate_every": max(1, steps // _VALIDATIONS)})
    training = Training(
        task=setup.resolved.task,
        data=data,
        templates=templates,
        config=settings,
        model=config.model,
        model_path=setup.resolved.model.path,
        seed=config.train.seeds[0],
        run=run,
        folder=trial.folder,
        validation=run.read_table("data/validation.parquet", holds_examples) if len(setup.validation) else None,
        validation_templates=setup.validation,
        tracking=config.tracking,
    )
    (result,) = fit([training], callbacks=[_Forward(steps)] if scheduled else [])
    validated = [row[METRIC] for row in result.history if METRIC in row]
    names = (
        "kind",
        "export",
        "sha256",
        "num_steps",
        "final_loss",
        "tokens_per_s",
        "time_s",
        "peak_memory_gib",
        "truncated_rows",
        "nodes",
    )
    values = {("train_time_s" if name == "time_s" else name): getattr(result, name) for name in names}
    return {
        **values,
        "num_templates": len(templates),
        "subset_seed": trial.subset_seed,
        **({METRIC: validated[-1]} if validated else {}),
    }
