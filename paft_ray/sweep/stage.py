"""`paft sweep`: Ray Tune over the size of the prompt set and training settings; nested subsets, the same global order
in every trial.

Every trial leaves a manifest when it is finished, so a sweep that is started again, also one with more sizes, trains
what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from paft_ray.config import answers_key, trained_engine_key, weights_key
from paft_ray.echo import echo, echo_table
from paft_ray.errors import UserError
from paft_ray.log import get_logger, stage_label
from paft_ray.report.format import percent
from paft_ray.report.sweep import TrialOutcomes, write_sweep
from paft_ray.stages import evaluate, prepare, synthesize
from paft_ray.stages.evaluate import evaluate_models
from paft_ray.stages.prepare import examples_of
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.artifacts import PROMPT_SET, ROWS, SWEEP_OUTCOMES, trial_outcomes
from paft_ray.storage.manifests import REPORT, SWEEP, ModelKey, SweepManifest, TrainedModel, TrialManifest
from paft_ray.storage.outputs import manifest_path, read_manifest
from paft_ray.storage.stage_cache import Manifest, cached, finish, kept
from paft_ray.storage.stage_keys import differences
from paft_ray.storage.store import Store
from paft_ray.storage.versions import decided_by
from paft_ray.sweep.ray_tune import train_trials
from paft_ray.sweep.trials import Setup, Trial, listed_trials, num_trials, pool_and_validation

_log = get_logger(__name__)
RESULTS_VERSION = 9
"""Raised where a change of the code changes results (`scripts/results_versions.py`)."""
_INPUTS = "sweep/inputs.json"


def run(resolved: ResolvedRun, *, force: bool = False) -> Manifest:
    """Trains one model per size, subset seed and setting, evaluates all in one stage, writes report/sweep.json,
    sweep.md and the curve.

    The manifest: the content of sweep.json and `failed`, the names of trials that failed (started again, only those are
    tried). Raises `StageError` where all did, `UserError` where inputs have changed since the sweep was begun.
    """
    if force:
        resolved.store.delete("sweep")
    prepare.run(resolved, force=force)
    synthesize.run(resolved, force=force)
    resolved = resolved.with_sampling()
    config, run, shared = resolved.config, resolved.store, setup(resolved)
    trials = listed_trials(config.sweep, len(shared.pool))
    key = {
        **decided_by("sweep", RESULTS_VERSION),
        **shared.inputs,
        "sweep": config.sweep.model_dump(mode="json", exclude={"max_concurrent"}),
        "report": config.report.model_dump(mode="json"),
    }
    _check_begun(run, shared.inputs, key, force)
    return cached(run, "sweep", key, lambda: _sweep(shared, trials), force=force, accept=resolved.accept)


def setup(resolved: ResolvedRun) -> Setup:
    """What the trials share, from the run's rows and templates."""
    config, run = resolved.config, resolved.store
    pool, validation = pool_and_validation(config, PROMPT_SET.read(run))
    inputs = {
        "train": weights_key(config.train),
        "evaluate": answers_key(config.evaluate),
        "task": resolved.task_key,
        **resolved.grader_key,
        "engine": trained_engine_key(config.engine),
        "seed": config.train.seeds[0],
        "model": resolved.model_key,
        "data": {name: rows.key(run) for name, rows in ROWS.items()},
        "prompts": PROMPT_SET.key(run),
        "validation_templates": validation.content_hash,
    }
    return Setup(resolved=resolved, pool=pool, validation=validation, inputs=inputs)


def _check_begun(run: Store, inputs: dict[str, Any], key: dict[str, Any], force: bool) -> None:
    """Keeps the trials of a sweep that was begun with the same inputs; other sizes or settings only add to them, and
    failed ones are tried again.

    Raises `UserError` naming what has changed, unless `force`, which starts from nothing.
    """
    if force:
        run.delete("sweep")
    elif run.exists(_INPUTS) and (changed := differences(run.read_json(_INPUTS), inputs)):
        raise UserError(
            f"the sweep of run {run.name} was begun with other inputs ({'; '.join(changed)}); use another name "
            "or --force to begin anew, rows and templates included"
        )
    elif run.exists(manifest_path(SWEEP)):
        finished = read_manifest(run, SWEEP, SweepManifest)
        if finished.failed or any(finished.key.get(part) != key[part] for part in ("sweep", "report")):
            run.delete(manifest_path(SWEEP))
    run.write_json(_INPUTS, inputs)


def _sweep(setup: Setup, listed: Sequence[Trial]) -> Manifest:
    config, run = setup.resolved.config, setup.resolved.store
    planned = num_trials(config.sweep, len(listed))
    _log.info(f"{stage_label('sweep')} {planned} trials at most, then an engine evaluates them")
    trained = train_trials(setup, listed)
    evaluated, starts = _evaluate(setup, trained.finished)
    outputs = SWEEP_OUTCOMES.write(run, pa.concat_tables(trial.outcomes for trial in evaluated))
    counts = {
        "finished": len(trained.finished),
        "failed": len(trained.failed),
        "reused": len(trained.reused),
        "stopped": len(trained.stopped),
    }
    written = write_sweep(run, evaluated, config=config, starts=(starts, 1), counts=counts)
    run.delete(manifest_path(REPORT))  # the run's page shows the sweep, too: the next `paft report` writes it anew
    _show(written.values)
    if trained.failed:
        _log.warning(
            f"{stage_label('sweep')} {len(trained.failed)} trials failed ({', '.join(trained.failed)}); the same "
            "command tries only these again"
        )
    return {**written.values, "failed": list(trained.failed), "outputs": outputs | written.files}


def _evaluate(setup: Setup, finished: dict[str, Trial]) -> tuple[list[TrialOutcomes], int]:
    """(outcomes of every finished trial, engine starts); a trial that was evaluated before is not again, the others
    share one engine."""
    run = setup.resolved.store
    trained = {name: read_manifest(run, trial.folder, TrialManifest) for name, trial in finished.items()}
    shared = {
        **decided_by("evaluate", evaluate.RESULTS_VERSION),
        **{part: setup.inputs[part] for part in ("evaluate", "engine", "prompts")},
    }
    keys = {
        name: {**shared, "sha256": each.sha256, "test": setup.inputs["data"]["test"]} for name, each in trained.items()
    }
    artifacts = {name: trial_outcomes(trial.folder) for name, trial in finished.items()}
    known = {name: kept(run, artifacts[name].stage, key, accept=setup.resolved.accept) for name, key in keys.items()}
    missing = {name: trained[name] for name, manifest in known.items() if manifest is None}
    starts = sum(manifest["engine_starts"] for manifest in known.values() if manifest is not None)
    for name, (outcomes, info) in (_measure(setup, missing) if missing else {}).items():
        made = {**info, "outputs": artifacts[name].write(run, outcomes)}
        finish(run, artifacts[name].stage, keys[name], made, time_s=0, announce=lambda _: None)
        starts += info["engine_starts"]
    found = [
        TrialOutcomes(
            name=name,
            size=trial.size,
            subset_seed=trial.subset_seed,
            settings=trial.settings,
            validation_loss=trained[name].validation_loss,
            outcomes=artifacts[name].read(run),
        )
        for name, trial in finished.items()
    ]
    return found, starts


def _measure(setup: Setup, trained: Mapping[str, TrialManifest]) -> dict[str, tuple[pa.Table, Manifest]]:
    """(Outcomes, counts) of trials by their manifests. Counts are those of all of them, but the engine's starts are the
    first one's alone."""
    from paft_ray.inference.answer_cache import AnswerCache

    config, run = setup.resolved.config, setup.resolved.store
    quick = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"latency_sample_rows": 0})})
    held_out = PROMPT_SET.read(run).split("held_out")
    keys = {name: ModelKey(name, config.train.seeds[0]) for name in trained}
    models = {keys[name]: TrainedModel.of(run, keys[name], each, {}) for name, each in trained.items()}
    found = evaluate_models(
        replace(setup.resolved, config=quick),
        models,
        held_out.templates,
        examples_of(run, "test"),
        AnswerCache.of(run, "sweep"),
    )
    first = next(iter(trained))
    return {
        name: (
            found.outcomes.filter(pc.field("arm") == name),
            {**found.manifest, "engine_starts": found.manifest["engine_starts"] if name == first else 0},
        )
        for name in trained
    }


def _show(written: Manifest) -> None:
    columns = ("templates", "trials", "mean", "std", "worst")
    rows = [
        (point["size"], point["num_trials"], *(percent(point[name]) for name in columns[2:]))
        for point in written["curve"]
    ]
    echo_table(columns, rows, title="held-out accuracy by size of the prompt set, %")
    echo(f"Recommended size: {written['recommended_size']}. {written['reason']}")
