"""`paft prompts check`: a verdict with its reason for every template of a file."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from paft_ray.echo import echo
from paft_ray.errors import UserError
from paft_ray.prompts.checks.rules import broken_rule
from paft_ray.prompts.gate import gated
from paft_ray.prompts.imports import read_any
from paft_ray.prompts.prompt_set import read_templates
from paft_ray.prompts.template import PromptTemplate
from paft_ray.sanitize import visible
from paft_ray.tasks.task import Task, load_task

if TYPE_CHECKING:
    from paft_ray.prompts.checks.verdict import Verdict
    from paft_ray.storage.quality import SignalFound

_SHOWN = 100  # characters of a template in a line


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One template of the file."""

    number: int
    """Its place, from 1."""
    id: str
    """Content id."""
    text: str
    system: str | None
    passed: bool
    reason: str | None
    """Of the gate, `duplicate`, of the rules or of the judge; None where it passed."""
    score: float | None = None
    """Log-odds (nats) of the judge, where it may decide."""


def check_prompts(
    path: str, task: str, *, max_words: int, judge: str | None, address: str | None, as_json: bool
) -> int:
    """Prints a verdict per template; 0 where all passed, else 1. Raises `UserError` for a file or task that cannot be
    read, before a judge starts."""
    own = load_task(task)
    found = checked(read_any(path), own, max_words=max_words)
    signal = None
    if judge is not None:
        if not own.seed_templates:
            raise UserError(
                f"--judge {judge}: task {own.name} names no seed templates, without which no judge may decide; name a "
                "file of them in its YAML (seed_templates: FILE)"
            )
        found, signal = judged(found, own, judge, address)
    rejected = Counter(each.reason for each in found if each.reason)
    passed = len(found) - rejected.total()
    if as_json:
        summary = {
            "read": len(found),
            "passed": passed,
            "rejected": dict(rejected),
            "judge": signal.model_dump(mode="json") if signal else None,
            "templates": [asdict(each) for each in found],
        }
        echo(json.dumps(summary, ensure_ascii=False))
    else:
        _print(found, passed, rejected, signal)
    return int(passed < len(found))


def _print(found: Sequence[Checked], passed: int, rejected: Counter[str], signal: SignalFound | None) -> None:
    for each in found:
        score = "" if each.score is None else f" ({each.score:+.1f})"
        echo(f"{each.number}: {each.reason or 'passed'}{score}: {visible(each.text)[:_SHOWN]!r}")
    if signal is not None:
        auc = "no AUC" if signal.auc is None else f"AUC {signal.auc:.2f} ({signal.low:.2f} to {signal.high:.2f})"
        echo(f"{signal.signal}: {auc}; {'it decides' if signal.may_decide else f'it may not decide: {signal.reason}'}")
    reasons = ", ".join(f"{reason} {count}" for reason, count in rejected.most_common())
    echo(f"{passed} of {len(found)} templates passed; rejected: {reasons or 'none'}")


def checked(given: Sequence[PromptTemplate], task: Task, *, max_words: int) -> list[Checked]:
    """What the gate and the rules make of the templates of one file, in their order."""
    found = []
    for number, (template, _, reason) in enumerate(gated(given, task, max_words=max_words), start=1):
        reason = reason or broken_rule(template, task)
        text, system, passed = template.text, template.system, reason is None
        found.append(Checked(number=number, id=template.id, text=text, system=system, passed=passed, reason=reason))
    return found


def judged(
    found: Sequence[Checked], task: Task, judge: str, address: str | None
) -> tuple[list[Checked], SignalFound | None]:
    """The same templates with the verdicts of a judge where it may decide, and what it is worth; None where no template
    was left to judge. Starts Ray and an engine."""
    from paft_ray.cli.resources import alive_nodes
    from paft_ray.cli.session import ray_session
    from paft_ray.config import EngineConfig, GeneratorConfig, JudgeConfig, PromptsConfig
    from paft_ray.generators.quality.question import longest_question
    from paft_ray.generators.quality.record import signal_found
    from paft_ray.generators.quality.registry import Models, signals
    from paft_ray.generators.quality.review import Reviewer
    from paft_ray.inference.answer_cache import AnswerCache
    from paft_ray.inference.engine_pool import shared_engines
    from paft_ray.models.local import find_model
    from paft_ray.storage.store import Store

    templates = [PromptTemplate(text=each.text, system=each.system) for each in found if each.passed]
    files = find_model(judge, None)
    longest = longest_question(files)
    with tempfile.TemporaryDirectory() as folder, ray_session(address), shared_engines(files, longest):
        models = Models(
            judge=JudgeConfig(id=judge),
            model_of=lambda _: files,
            engine=EngineConfig(num_gpus=min(1, max(node.get("GPU", 0) for node in alive_nodes()))),
            cache=AnswerCache.of(Store(folder), ""),
        )
        reviewer = Reviewer(
            task=task,
            seeds=_seeds(task),
            held_out=(),
            similarity=PromptsConfig().similarity,
            seed=0,
            signals=lambda generator, question: signals(generator, question, models),
            forced=lambda generator: (),
        )
        review = reviewer.review(GeneratorConfig(id=judge), templates)
    if not review.calibrations:
        return list(found), None
    verdicts = {} if review.decided_by is None else review.verdicts
    return [_with(each, verdicts.get(each.id)) for each in found], signal_found(judge, review.calibrations[-1])


def _with(one: Checked, verdict: Verdict | None) -> Checked:
    """A template that passed so far with the judge's verdict, where there is one."""
    if verdict is None or not one.passed:
        return one
    return replace(one, passed=verdict.passed, reason=verdict.reason, score=verdict.score)


def _seeds(task: Task) -> list[PromptTemplate]:
    """The seed templates that ship with the task."""
    from paft_ray.config import located

    return read_templates(located("templates", task.seed_templates)) if task.seed_templates else []
