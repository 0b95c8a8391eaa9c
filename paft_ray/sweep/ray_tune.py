"""Ray Tune: trains the trials of a sweep.

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

from paft_ray.config import Config, RangeConfig, TrainConfig
from paft_ray.errors import StageError, UserError, one_line
from paft_ray.log import get_logger, log_progress, stage_label
from paft_ray.stages.stage_errors import first_cause, reason
from paft_ray.storage.outputs import manifest_path
from paft_ray.storage.stage_cache import finished_below
from paft_ray.storage.store import Store
from paft_ray.sweep.trials import Setup, Trial, chosen, num_trials, ranges
from paft_ray.sweep.tune_trial import METRIC, TIME, run_trial

_log = get_logger(__name__)
_SEEDS = {"optuna": "seed", "hyperopt": "random_state_seed"}
_SCHEDULERS = {"asha": "async_hyperband", "median_stopping_rule": "median_stopping_rule"}


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
        tune.with_resources(tune.with_parameters(trial or run_trial, setup=setup, listed=list(listed)), {"CPU": 0.1}),
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
    """The trials by how they ended. Raises `UserError` where one was refused, such as a finished one whose libraries
    have changed: it would be refused again, and a curve without it is another one."""
    for error in (result.error for result in results if result.error is not None):
        if (refused := first_cause(error, UserError)) is not None:
            raise UserError(one_line(refused))
    finished: dict[str, Trial] = {}
    failed, stopped = [], []
    for result in results:
        found = chosen(listed, result.config or {})
        if result.error is not None:
            failed.append(found.name)
            _log.warning(f"[sweep {found.name}] failed: {reason(run, f'sweep-{found.name}', result.error)}")
        elif run.exists(manifest_path(found.folder)):
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
    that is given); seeded, so that a sweep that is started again meets the same trials, as far as they end in the same
    order."""
    searcher = config.sweep.searcher
    if searcher is None:
        return tune.search.basic_variant.BasicVariantGenerator(random_state=config.seed, max_concurrent=limit)
    seeded = {_SEEDS[searcher.name]: config.seed}
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
        log_progress(_log, f"{stage_label('sweep')} {self.ended} of {self.total} trials ended", self.ended / self.total)
