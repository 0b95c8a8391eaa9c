"""The review of what the generators of a run wrote: candidates that may not be used are rejected before any is
selected."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paft_ray.config import Config, GeneratorConfig
from paft_ray.generators.quality.question import Question
from paft_ray.generators.quality.record import signal_found
from paft_ray.generators.quality.review import NOT_SURE, Reviewed, Reviewer
from paft_ray.generators.requests import Completion, Request, request
from paft_ray.generators.writer import Writer
from paft_ray.prompts.checks.rules import refusal
from paft_ray.prompts.gate import repair
from paft_ray.prompts.template import PromptTemplate
from paft_ray.storage.quality import CandidateFound, Quality
from paft_ray.tasks.task import Task

_NUM_FORCED = 48
"""Requests for templates of other tasks; half as many texts or more are left after the gate."""
FIRST_FORCED = 1_000_000
"""Number of the first such request, beyond those for candidates."""

Ask = Callable[[Sequence[Request], GeneratorConfig], list[Completion]]
"""(requests, generator) -> one answer per request."""


def review_writers(writers: Sequence[Writer], reviewer: Reviewer) -> list[Reviewed]:
    """What was found of each generator that wrote something fit; candidates that did not pass are rejected. A template
    that one signal is not sure of is used of no generator. Raises as the signals do."""
    writing = [writer for writer in writers if writer.fit]
    found = [reviewer.review(writer.budgeted, [each.template for each in writer.fit]) for writer in writing]
    unsure = {name for each in found for name, verdict in each.verdicts.items() if verdict.reason == NOT_SURE}
    for writer, reviewed in zip(writing, found, strict=True):
        for candidate in writer.fit:
            verdict = reviewed.verdicts[candidate.template.id]
            candidate.score = verdict.score
            candidate.rejected = verdict.reason or (NOT_SURE if candidate.template.id in unsure else None)
    return found


def quality(writers: Sequence[Writer], reviewed: Sequence[Reviewed]) -> Quality:
    """What synthesize/quality.json holds. `writers`: with their final verdicts."""
    return Quality(
        signals=tuple(signal_found(each.generator, tried) for each in reviewed for tried in each.calibrations),
        candidates=tuple(
            CandidateFound(
                id=candidate.template.id,
                generator=writer.generator.label,
                passed=candidate.rejected in (None, "surplus"),
                reason=candidate.rejected,
                score=candidate.score,
            )
            for writer in writers
            for candidate in writer.candidates
        ),
    )


def forced_templates(task: Task, generator: GeneratorConfig, config: Config, ask: Ask) -> list[PromptTemplate]:
    """What a generator writes when it is asked for templates of other tasks, with the fields and labels of this one;
    what gate and rules reject is left out."""
    others = Question.about(task).options[1:]
    asked = [
        request(
            task.model_copy(update={"description": others[number % len(others)].description}),
            (),
            0,
            config.seed,
            FIRST_FORCED + number,
        )
        for number in range(_NUM_FORCED)
    ]
    found: dict[str, PromptTemplate] = {}
    for each, answer in zip(asked, ask(asked, generator), strict=True):
        for template in each.templates(answer.text) if answer.text and answer.finished else ():
            repaired, _ = repair(template)
            if refusal(repaired, task, max_words=config.prompts.max_words) is None:
                found.setdefault(repaired.id, repaired)
    return list(found.values())
