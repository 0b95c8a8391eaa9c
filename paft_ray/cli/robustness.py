"""`paft robustness`: models that are there, measured under a suite."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from paft_ray.cli.out_file import ANOTHER_OUT, check_folder
from paft_ray.cli.preflight import check_keys
from paft_ray.cli.preflight_model import check_model
from paft_ray.cli.resources import awaited_resources, check_here, seconds
from paft_ray.cli.robustness_checks import (
    OUTCOMES_FILE,
    ROWS_FILE,
    Baseline,
    check_comparable,
    check_junit,
    check_limits,
    checked,
    junit_xml,
    parse_limits,
    print_checks,
    read_baseline,
)
from paft_ray.cli.secrets import check_no_secrets
from paft_ray.cli.session import ray_session
from paft_ray.cli.signals import interruptible
from paft_ray.cli.summary import print_results
from paft_ray.config import Config, parse_config, with_overrides
from paft_ray.echo import echo
from paft_ray.errors import StageError, UserError, one_line
from paft_ray.log import get_logger
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.report.arm_order import pairs
from paft_ray.report.axes import Varied
from paft_ray.report.check import Check
from paft_ray.robustness.groups import Group, grouped
from paft_ray.robustness.models import GivenModel, given_models, keep_adapter, shown
from paft_ray.robustness.seen import Seen
from paft_ray.robustness.suites import VERSION, Suite, make_suite
from paft_ray.stages.precision import with_known_precision
from paft_ray.stages.prepare import first_in_proportion
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.stages.stage_errors import named
from paft_ray.storage.run_lock import hold
from paft_ray.storage.store import Store
from paft_ray.tasks.readers import check_source, read_examples
from paft_ray.tasks.task import Example, Source, content_id

if TYPE_CHECKING:
    import pyarrow as pa

    from paft_ray.stages.evaluate import Evaluation

_log = get_logger(__name__)
NAME = "robustness"
_MARK = "robustness.json"
"""Written first, so that the folder may be written to again."""
_SUITE, _ANSWERS = "suite.parquet", "answers.parquet"
_SECTIONS = ("engine", "evaluate", "model", "report", "prompts", "plugins", "insecure_hosts", "seed")
FAILED = 3
"""Exit code where a check fails."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for."""

    models: tuple[str, ...]
    task: str
    suite: tuple[str, ...]
    out: str
    data: str | None
    num_rows: int
    base: str | None
    chat: bool
    overrides: tuple[str, ...]
    fail_below: str | None
    baseline: str | None
    junit: str | None


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """The request, found good."""

    resolved: ResolvedRun
    models: list[GivenModel]
    seen: Seen
    suite: Suite
    examples: list[Example]
    limits: Mapping[str, float]
    baseline: Baseline | None
    target: Store

    @cached_property
    def rows(self) -> dict[str, str]:
        """Id of every row -> hash of its content."""
        return {example.id: content_id(example.fields, example.answer) for example in self.examples}


def robustness(request: Request, *, dry_run: bool, address: str | None, wait: str) -> int:
    """Exit code: 0, or `FAILED` where a check fails. Writes results.json, report.md, report.html, outcomes.parquet,
    suite.parquet and a card of each model. Raises `UserError` before Ray starts."""
    wait_s = seconds(wait)
    plan = _plan(request)
    if dry_run:
        echo(_said(plan))
        return 0
    config = plan.resolved.config
    if not (address or os.environ.get("RAY_ADDRESS")):
        check_keys(model.endpoint for model in plan.models if model.endpoint is not None)
        if any(model.endpoint is None for model in plan.models):
            check_here(config, "evaluate")
    if number := plan.seen.num_trained(plan.examples):
        _log.warning(f"[{NAME}] {number} of {len(plan.examples)} rows are training rows of the runs of these models")
    plan.target.write_json(_MARK, {"models": list(request.models), "suite": list(plan.suite.names), "version": VERSION})
    holding = hold(plan.target, NAME, elsewhere=ANOTHER_OUT)
    with interruptible("start the same command again"), holding, named(plan.target, NAME):
        groups = _groups(plan)
        with ray_session(address), awaited_resources(config, "evaluate", wait_s):
            found = _measured(plan, groups)
        _write_answers(plan, found)
        values = _reported(plan, found)
    print_results(values, where="the suite's plain templates")
    checks = [Check(**each) for each in values.get("checks", ())]
    print_checks(checks)
    echo(f"{NAME}: {plan.target.uri('report.html')}")
    if request.junit:
        junit_xml(request.junit, checks)
    return FAILED if any(not check.passed for check in checks) else 0


def check_request(request: Request, *, with_rows: bool, with_runs: bool) -> None:
    """Raises `UserError` for what cannot be measured. Neither a hub, nor a cluster, nor an endpoint is reached, without
    rows no file of them either; without runs, which decide the templates, those are not looked at."""
    _plan(request, with_rows=with_rows, with_runs=with_runs)


def _plan(request: Request, *, with_rows: bool = True, with_runs: bool = True) -> _Plan:
    limits = parse_limits(request.fail_below)
    check_junit(request.junit)
    baseline = read_baseline(request.baseline)
    target = check_folder(request.out, _MARK)
    config = config_of(request)
    resolved = ResolvedRun.of(config, target)
    check_no_secrets(resolved.config, resolved.task)
    task = resolved.task
    _ = task.grader
    models = given_models(request.models, base=request.base, chat=request.chat, config=config, task=task)
    resolved = replace(resolved, config=_with_primary(resolved.config, models))
    seen = Seen.of(models)
    suite = make_suite(request.suite, task, resolved.config, seen)
    if config.evaluate.budget < 1 and suite.variants:
        raise UserError("--budget: is for suite templates alone, whose cells stand for each other; give fewer --rows")
    num_templates = len(suite.plain) if with_runs else None
    check_limits(limits, num_templates=num_templates, budget=config.evaluate.budget)
    plan = _Plan(
        resolved=resolved,
        models=models,
        seen=seen,
        suite=suite,
        examples=_examples(resolved, request, seen) if with_rows else [],
        limits=limits,
        baseline=baseline,
        target=target,
    )
    if baseline and with_runs:
        names, columns = [model.name for model in models], [template.id for template in suite.templates]
        check_comparable(baseline, models=names, templates=columns, rows=plan.rows)
    return plan


def config_of(request: Request) -> Config:
    """The settings of a run that a measurement takes; answers are not timed unless it is asked for. Raises `UserError`
    for settings that it does not take."""
    for override in request.overrides:
        if override.partition("=")[0].partition(".")[0] not in _SECTIONS:
            raise UserError(f"--set {override}: a measurement takes no such setting; allowed: {', '.join(_SECTIONS)}")
    values: dict[str, Any] = {"name": NAME, "task": request.task, "evaluate": {"latency_sample_rows": 0}}
    return parse_config(with_overrides(values, request.overrides), "--set")


def _with_primary(config: Config, models: Sequence[GivenModel]) -> Config:
    """The configuration with the comparison that is not corrected for the others: as it says, else that of the first
    two models. Raises `UserError` for one that is none of them."""
    found = {frozenset(pair): "-".join(pair) for pair in pairs(model.name for model in models)}
    primary = config.report.primary
    if primary is None:
        primary = found.get(frozenset(model.name for model in models[:2]))
    elif primary not in found.values():
        raise UserError(
            f"report.primary={primary}: no comparison of these models; allowed: {', '.join(found.values())}"
        )
    return config.model_copy(update={"report": config.report.model_copy(update={"primary": primary})})


def _examples(resolved: ResolvedRun, request: Request, seen: Seen) -> list[Example]:
    """The rows, drawn by seed, labels in the proportions of the source."""
    task, found = resolved.task, list[Example]()
    source = Source(path=request.data) if request.data else task.sources.get("test")
    if source is not None:
        if source.dataset is None:
            check_source(task, source)
        found = list(read_examples(task, source))
    elif not (found := seen.test_rows(task)):
        raise UserError(f"task {task.name}: has no test rows of its own; give --data FILE")
    return first_in_proportion(found, request.num_rows, resolved.config.seed, by_answer=bool(task.label_texts))


def _groups(plan: _Plan) -> list[Group]:
    """The models by base, their files found and checked."""
    from paft_ray.training.trained_weights import check_trained

    groups = []
    for group in grouped(plan.resolved, plan.models):
        path = group.resolved.model.path
        check_model(group.resolved.config, group.resolved.task, path, (list(plan.suite.templates), []), trains=False)
        members = [keep_adapter(m, plan.target, base=path) if m.adapter else m for m in group.models]
        for model in members:
            for each in model.trained:
                check_trained(each.store, [each.model], base=path)
        groups.append(replace(group, models=tuple(members)))
    return groups


def _measured(plan: _Plan, groups: Sequence[Group]) -> Evaluation:
    """The outcomes of all models, with the manifest of the measurement."""
    from paft_ray.robustness.measure import measure

    begin = time.perf_counter()
    precision = with_known_precision(plan.resolved, ["engine"]).config.engine
    known = [
        replace(
            group,
            resolved=replace(group.resolved, config=group.resolved.config.model_copy(update={"engine": precision})),
        )
        for group in groups
    ]
    asked = [model for model in plan.models if model.endpoint is not None]
    found = measure(known, asked, plan.resolved, plan.suite.templates, plan.examples)
    _check_answered(plan, found.outcomes)
    return replace(found, manifest={**found.manifest, "time_s": round(time.perf_counter() - begin, 3)})


def _check_answered(plan: _Plan, outcomes: pa.Table) -> None:
    """Raises `StageError` where a model gave no answer at all under a plain template: nothing can be said of it."""
    columns = outcomes.group_by(["arm", "template_id"]).aggregate([])
    found = set(zip(columns["arm"].to_pylist(), columns["template_id"].to_pylist(), strict=True))
    for model in plan.models:
        if silent := [template for template in plan.suite.plain if (model.name, template.id) not in found]:
            raise StageError(
                f"model {model.name}: all requests under {len(silent)} templates failed, the first: "
                f"{one_line(silent[0].text)[:100]!r}"
            )


def _write_answers(plan: _Plan, found: Evaluation) -> None:
    """Writes outcomes, suite, and the rows by id, each with the hash of its content."""
    plan.target.write_table(OUTCOMES_FILE, found.outcomes)
    plan.target.write_table(_SUITE, plan.suite.to_table())
    if found.answers is not None:
        plan.target.write_table(_ANSWERS, found.answers)
    plan.target.write_json(ROWS_FILE, plan.rows)


def _reported(plan: _Plan, found: Evaluation) -> dict[str, Any]:
    """The content of results.json, after report and page are written. Raises `UserError` for a baseline that cannot be
    compared."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from paft_ray.report.inputs import Measured
    from paft_ray.report.measured_card import write_measured_cards
    from paft_ray.report.render import write_report

    config, task, suite = plan.resolved.config, plan.resolved.task, plan.suite
    examples = {example.id: example for example in plan.examples}
    plain = pc.is_in(found.outcomes["template_id"], pa.array([template.id for template in suite.plain]))
    measured = Measured(
        outcomes=found.outcomes.filter(plain),
        templates=PromptSet.of(Entry.of_file(template, "suite", "held_out") for template in suite.plain),
        examples=examples,
        speed=found.speed,
        manifest=found.manifest,
        texts=found.answers,
        labels=task.label_texts if config.evaluate.calibration else (),
        models={model.name: shown(model) for model in plan.models},
    )
    varied = Varied(
        outcomes=found.outcomes, plain=suite.plain, variants=suite.variants, examples=examples, texts=found.answers
    )
    now, refused = Baseline(path=plan.target.root, outcomes=found.outcomes, rows=plan.rows), list[UserError]()

    def checks(values: Mapping[str, Any]) -> Sequence[Check]:
        try:
            return checked(values, plan.limits, plan.baseline, now)
        except UserError as error:  # the report is written without them
            refused.append(error)
            return []

    written = write_report(
        plan.target,
        config=config,
        stages=(),
        measured=measured,
        folder="",
        varied=varied if suite.variants else None,
        checks=checks,
    )
    write_measured_cards(
        plan.target, written.values, measured.models, task=task.name, has_labels=bool(task.label_texts)
    )
    if refused:
        raise refused[0]
    return written.values


def _said(plan: _Plan) -> str:
    """What would be asked of whom."""
    from paft_ray.stages.evaluate import asked_cells

    suite, rows = plan.suite, len(plan.examples)
    cells = asked_cells(plan.resolved.config, len(suite.templates), plan.examples)
    num_cells = len(suite.templates) * rows if cells is None else int(cells.sum())
    lines = [f"{model.name}: {shown(model)}" for model in plan.models]
    asked = num_cells * sum(len(model.keys) for model in plan.models)
    lines.append(
        f"suite {', '.join(suite.names)}: {len(suite.plain)} plain templates, {len(suite.variants)} "
        f"variants, {rows} rows: {asked} answers of each kind, less those that are kept"
    )
    for model in plan.models:
        if model.endpoint is not None:
            lines.append(
                f"leaves this machine: {num_cells} prompts with rows to {model.endpoint.label}, at "
                f"most {model.endpoint.longest_answer} tokens each to be answered"
            )
    return "\n".join(lines)
