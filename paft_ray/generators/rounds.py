"""Candidates: generator models write templates in rounds, what they write goes through the gate, and of what passes
those that differ most are kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from paft_ray.config import Config, EngineConfig, GeneratorConfig
from paft_ray.generators.requests import Completion, Request, grammar_share, request
from paft_ray.generators.writer import Candidate, Writer
from paft_ray.models.reference import ModelFiles
from paft_ray.prompts.checks.rules import refusal
from paft_ray.prompts.gate import repair
from paft_ray.prompts.prompt_set import Entry
from paft_ray.prompts.selection import diverse
from paft_ray.prompts.similarity import Known
from paft_ray.prompts.split import near
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Example, Task

if TYPE_CHECKING:
    from paft_ray.inference.answer_cache import AnswerCache

Write = Callable[[Sequence[Request], GeneratorConfig, EngineConfig, int], tuple[list[Completion], int]]
"""(requests, generator, engine, seed) -> (one answer per request, engine starts that they took)."""
Review = Callable[[Sequence[Writer]], None]
"""Rejects candidates that nothing tells to ask for the task."""
_OVER = 2  # templates asked for, for each one that is missing


def write_with_model(
    requests: Sequence[Request],
    generator: GeneratorConfig,
    engine: EngineConfig,
    seed: int,
    cache: AnswerCache,
    model_of: Callable[[GeneratorConfig], ModelFiles],
    insecure_hosts: Sequence[str] = (),
) -> tuple[list[Completion], int]:
    """The real generators: an endpoint, or vLLM through Ray Data, imported only where it is used. `cache` keeps answers
    of a round that does not end, and those of endpoints for good; `model_of` gives the files of a generator that is no
    endpoint."""
    from paft_ray.generators import openai, vllm

    if generator.endpoint is not None:
        return openai.write_templates(requests, generator, seed, cache.lasting, insecure_hosts), 0
    return vllm.write_templates(requests, generator, engine, seed, cache, model_of(generator))


def ask_generators(
    config: Config,
    task: Task,
    seeds: list[PromptTemplate],
    others: list[Entry],
    examples: list[Example],
    write: Write,
    review: Review,
) -> list[Writer]:
    """The models of the configuration with their candidates, in order: each round asks for twice as many templates
    as are missing, and of all that pass `review` those that differ most from each other and from `seeds` are kept.

    `seeds` are shown in few-shot requests, `examples` in all; near-copies of `others`, or of what was written before,
    are rejected.
    """
    settings = config.prompts
    models = [generator for generator in settings.generators if generator.type != "grammar"]
    writers = [
        Writer.of(generator, _share(settings.num_candidates, len(models), number), settings)
        for number, generator in enumerate(models)
    ]
    for number in range(1, settings.max_rounds + 1):
        asking = [writer for writer in writers if writer.wants_more]
        asked = [_requests(writer, config, task, seeds, examples) for writer in asking]
        for writer, requests, (answers, starts, time_s) in zip(
            asking, asked, _answers(asking, asked, config, write), strict=True
        ):
            writer.rounds = number
            writer.engine_starts += starts
            writer.time_s += time_s
            written = [entry.template for entry in (*others, *writer.accepted)]
            _take(writer, requests, answers, task, config, Known(written, settings.similarity))
    review(writers)
    select(writers, seeds, settings.similarity)
    return writers


def select(writers: Sequence[Writer], seeds: Sequence[PromptTemplate], similarity: float) -> None:
    """Rejects near-copies of what is kept of an earlier generator and, as `surplus`, what a generator wrote beyond its
    target: kept are those that differ most from each other, from `seeds` and from what is kept before."""
    kept: list[Entry] = []
    for writer in writers:
        writer.passed = len(writer.fit)
        copies = near(writer.accepted, kept, similarity)
        for candidate in writer.fit:
            if candidate.template.id in copies:
                candidate.rejected = "near_duplicate"
        fit = writer.fit
        start = [*seeds, *(entry.template for entry in kept)]
        chosen = set(diverse([candidate.template for candidate in fit], writer.target, start=start))
        for number, candidate in enumerate(fit):
            if number not in chosen:
                candidate.rejected = "surplus"
        kept += writer.accepted


def _requests(
    writer: Writer, config: Config, task: Task, seeds: list[PromptTemplate], examples: list[Example]
) -> list[Request]:
    """The requests of one round."""
    settings, missing = config.prompts, writer.target - len(writer.fit)
    return [
        request(
            task,
            seeds,
            settings.num_few_shot,
            config.seed,
            writer.requests + i,
            examples,
            strategies=settings.strategies,
            count=writer.per_answer,
        )
        for i in range(-(-_OVER * missing // writer.per_answer))
    ]


def _answers(
    writers: list[Writer], asked: list[list[Request]], config: Config, write: Write
) -> list[tuple[list[Completion], int, float]]:
    """What each writer answers, engine starts and seconds that this took. Endpoints are asked concurrently, and before
    an engine starts, so that a refused key costs no start."""

    def timed(i: int) -> tuple[list[Completion], int, float]:
        begin_s = time.monotonic()
        answers, starts = write(asked[i], writers[i].budgeted, config.engine, config.seed)
        return answers, starts, time.monotonic() - begin_s

    outside = [i for i, writer in enumerate(writers) if writer.generator.endpoint is not None]
    found: dict[int, tuple[list[Completion], int, float]] = {}
    if outside:
        with ThreadPoolExecutor(len(outside)) as pool:
            found = dict(zip(outside, pool.map(timed, outside), strict=True))
    return [found[i] if i in found else timed(i) for i in range(len(writers))]


def _take(
    writer: Writer, requests: list[Request], answers: list[Completion], task: Task, config: Config, known: Known
) -> None:
    """Takes the answers of one round to the gate. A generator that writes fewer than half of its lists as lists is
    asked for one template at a time from then on."""
    answered = unreadable = 0
    for asked, written in zip(requests, answers, strict=True):
        found, fault = _read(asked, written)
        answered += bool(written.text)
        unreadable += fault is not None and bool(written.text)
        for place, given in enumerate(found):
            candidate = _candidate(writer, asked, place, given, fault, task, config)
            if candidate.rejected is None and not known.add(candidate.template):
                candidate.rejected = "near_duplicate"
            candidate.tokens = 0 if place else written.tokens
            writer.candidates.append(candidate)
    writer.requests += len(requests)
    writer.answers += answered
    writer.tokens += sum(written.tokens for written in answers)
    writer.silent = writer.generator.endpoint is not None and not answered
    if 2 * unreadable > answered:
        writer.per_answer = 1


def _candidate(
    writer: Writer, asked: Request, place: int, given: PromptTemplate, fault: str | None, task: Task, config: Config
) -> Candidate:
    """The template at one place of an answer, after the gate."""
    template, _ = repair(given)
    origin = {
        "strategy": asked.strategy,
        "axes": asked.axes[place],
        "grammar_share": grammar_share(template, task) if writer.guided else 0.0,
        **({"rewrites": asked.rewrites} if asked.rewrites else {}),
    }
    return Candidate(
        template=template,
        text=given.text,
        request=asked.number,
        origin=origin,
        attempt=writer.rounds,
        rejected=fault or refusal(template, task, max_words=config.prompts.max_words),
    )


def _read(asked: Request, written: Completion) -> tuple[list[PromptTemplate], str | None]:
    """(Templates of an answer, why none can be read: then the answer stands for them)."""
    complete = [PromptTemplate(text=written.text)]
    if not written.finished:
        return complete, "unfinished" if written.text else written.missing
    try:
        return asked.templates(written.text), None
    except ValueError:
        return complete, "no_list"


def _share(total: int, parts: int, number: int) -> int:
    return total // parts + (number < total % parts)
