"""`paft evaluate RUN`: the arms of a finished run on other templates and rows."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from paft_ray.cli.out_file import ANOTHER_OUT, check_folder, named_folder
from paft_ray.cli.resources import awaited_resources, check_here, seconds
from paft_ray.cli.session import ray_session
from paft_ray.cli.signals import interruptible
from paft_ray.echo import echo
from paft_ray.errors import UserError
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.report.arm_order import check_primary
from paft_ray.stages.registry import REPORTED, STAGES
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.stages.stage_errors import named
from paft_ray.stages.user_templates import gated_templates
from paft_ray.storage.manifests import TrainedModel, trained_models
from paft_ray.storage.run_lock import hold
from paft_ray.storage.stage_cache import PARTIAL
from paft_ray.storage.store import Store
from paft_ray.tasks.readers import read_examples
from paft_ray.tasks.task import Source, Task
from paft_ray.training.trained_weights import check_trained

if TYPE_CHECKING:
    from paft_ray.stages.evaluate import Evaluation

_OWN_FOLDERS = ("", *STAGES, "logs")
_MARK = "evaluated_run.json"
"""Written first, so that the folder may be written to again: to go on after an interruption, or with other
templates."""


def evaluate_run(
    folder: str, templates: str, test: str, out: str, address: str | None, plugins: Sequence[str] = (), wait: str = "0"
) -> None:
    """Writes results.json, report.md and report.html (and outcomes.parquet) into `out`. Raises `UserError` before Ray
    starts.

    `plugins`: files of graders that the run was made with.
    """
    wait_s = seconds(wait)
    run = Store(folder)
    trained = trained_models(run)
    resolved = ResolvedRun.load(run).as_trained(trained[0].settings).with_plugins(plugins)
    config = resolved.config
    check_primary(config.report.primary, list(dict.fromkeys(model.arm for model in trained)))
    task = _trained_task(resolved, trained[0])
    given = gated_templates(templates, config, task)
    examples = list(read_examples(task, Source(path=test)))
    prompts = PromptSet.of(Entry.of_file(t, "user", "held_out") for t in given)
    _check_target(out, run)
    if not (address or os.environ.get("RAY_ADDRESS")):
        check_here(config, "evaluate")
    resolved = resolved.with_model()
    check_trained(run, trained, base=resolved.model.path)
    target = Store.at(out)
    target.write_json(_MARK, {"run": run.root})
    from paft_ray.inference.answer_cache import AnswerCache
    from paft_ray.report.inputs import Measured
    from paft_ray.report.render import write_report
    from paft_ray.stages.evaluate import evaluate_models, with_base

    holding = hold(target, "evaluate", elsewhere=ANOTHER_OUT)
    with interruptible("start the same command again"), holding, named(run, "evaluate"):
        with ray_session(address), awaited_resources(config, "evaluate", wait_s):
            begin = time.perf_counter()
            cache = AnswerCache.of(target, "")
            found = evaluate_models(resolved, with_base(trained), prompts.templates, examples, cache)
            manifest = {**found.manifest, "time_s": round(time.perf_counter() - begin, 3)}
        _write_tables(target, found)
        target.delete(PARTIAL)
        measured = Measured(
            outcomes=found.outcomes,
            templates=prompts,
            examples={e.id: e for e in examples},
            speed=found.speed,
            manifest=manifest,
            texts=found.answers,
            labels=task.label_texts if config.evaluate.calibration else (),
        )
        write_report(run, config=config, stages=REPORTED, measured=measured, out=target, folder="")
    echo(f"evaluate: {target.uri('report.html')}")


def _write_tables(target: Store, found: Evaluation) -> None:
    target.write_table("outcomes.parquet", found.outcomes)
    if found.answers is not None:
        target.write_table("answers.parquet", found.answers)


def _trained_task(resolved: ResolvedRun, model: TrainedModel) -> Task:
    """The task of the configuration. Raises `UserError` where it is not the one that was trained on."""
    if resolved.task_key != model.settings["task"]:
        raise UserError(
            f"run {resolved.store.root}: task.json is not the task that it was trained on; restore it, or train again"
        )
    return resolved.task


def _check_target(out: str, run: Store) -> None:
    """Raises `UserError` where the results would be among other files: in the run or one of its own folders, or in a
    folder that holds something else."""
    target, whole = named_folder(out), run.path("")
    inside = (
        target.path("").removeprefix(whole).split("/")[0]
        if target.path("").startswith(whole) and target.filesystem == run.filesystem
        else None
    )
    if inside is not None and inside in _OWN_FOLDERS:
        raise UserError(f"--out {out}: holds the run's own results; give another folder")
    check_folder(out, _MARK)
