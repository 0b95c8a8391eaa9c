"""Candidates: generator models write templates in rounds, and what they write goes through the gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paft_ray.config import Config, EngineConfig, GeneratorConfig
from paft_ray.generators.requests import Completion, Request, grammar_share, request
from paft_ray.models.reference import ModelFiles
from paft_ray.prompts.checks.rules import broken_rule
from paft_ray.prompts.gate import rejection, repair
from paft_ray.prompts.prompt_set import Entry
from paft_ray.prompts.split import near
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Example, Task

if TYPE_CHECKING:
    from paft_ray.inference.answer_cache import AnswerCache

Write = Callable[[Sequence[Request], GeneratorConfig, EngineConfig, int], tuple[list[Completion], int]]
"""(requests, generator, engine, seed) -> (one answer per request, engine starts that they took)."""


def write_with_model(
    requests: Sequence[Request],
    generator: GeneratorConfig,
    engine: EngineConfig,
    seed: int,
    cache: AnswerCache,
    model_of: Callable[[GeneratorConfig], ModelFiles],
    insecure_hosts: Sequence[str] = (),
) -> tuple[list[Completion], int]:
    """The real generators: an endpoint, or vLLM through Ray Data, imported only where it is used. `parts` keeps answers
    of a round that does not end; `model_of` gives the files of a generator that is no endpoint."""
    from paft_ray.generators import openai, vllm

    if generator.endpoint is not None:
        return openai.write_templates(requests, generator, seed, cache, insecure_hosts), 0
    return vllm.write_templates(requests, generator, engine, seed, cache, model_of(generator))


@dataclass(kw_only=True)
class Writer:
    """A generator with the templates that it has written so far."""

    generator: GeneratorConfig
    target: int
    """Templates wanted from it."""
    accepted: list[Entry] = field(default_factory=list)
    raw: list[dict[str, Any]] = field(default_factory=list)
    """Every answer with the reason of its rejection, None where it was accepted."""
    rounds: int = 0
    engine_starts: int = 0
    tokens: int = 0
    """Spent of an endpoint's `max_total_tokens`."""
    silent: bool = False
    """Whether an endpoint gave no answer in a complete round; it gets no other request."""

    @property
    def wants_more(self) -> bool:
        return len(self.accepted) < self.target and not self.silent

    @property
    def budgeted(self) -> GeneratorConfig:
        """The generator with what is left of its token limit."""
        endpoint = self.generator.endpoint
        if endpoint is None or endpoint.max_total_tokens is None:
            return self.generator
        left = endpoint.model_copy(update={"max_total_tokens": endpoint.max_total_tokens - self.tokens})
        return self.generator.model_copy(update={"endpoint": left})


def ask_generators(
    config: Config, task: Task, seeds: list[PromptTemplate], others: list[Entry], examples: list[Example], write: Write
) -> list[Writer]:
    """The generators of the configuration with their templates, in order: each round requests twice as many as are
    missing.

    `seeds` are shown in few-shot requests, `examples` in all; near-copies of `others`, or of what an earlier generator
    wrote, are rejected.
    """
    settings = config.prompts
    parts = len(settings.generators)
    writers = [
        Writer(generator=generator, target=_share(settings.num_candidates, parts, number))
        for number, generator in enumerate(settings.generators)
    ]
    for number in range(1, settings.max_rounds + 1):
        asking = [writer for writer in writers if writer.wants_more]
        asked = []
        for writer in asking:
            first, missing = len(writer.raw), writer.target - len(writer.accepted)
            asked.append(
                [
                    request(task, seeds, settings.num_few_shot, config.seed, first + i, examples)
                    for i in range(2 * missing)
                ]
            )
        for writer, requests, (answers, starts) in zip(
            asking, asked, _answers(asking, asked, config, config.seed + number, write), strict=True
        ):
            writer.rounds = number
            writer.engine_starts += starts
            known = [*others, *(entry for other in writers for entry in other.accepted)]
            _take(writer, requests, answers, task, config, known)
    return writers


def _answers(
    writers: list[Writer], asked: list[list[Request]], config: Config, seed: int, write: Write
) -> list[tuple[list[Completion], int]]:
    """What each writer gets. Endpoints are asked concurrently, and before an engine starts, so that a refused
    key costs no start."""
    found: dict[int, tuple[list[Completion], int]] = {}
    outside = [i for i, writer in enumerate(writers) if writer.generator.endpoint is not None]
    if outside:
        with ThreadPoolExecutor(len(outside)) as pool:
            running = {i: pool.submit(write, asked[i], writers[i].budgeted, config.engine, seed) for i in outside}
        found = {i: future.result() for i, future in running.items()}
    return [
        found[i] if i in found else write(asked[i], writer.generator, config.engine, seed)
        for i, writer in enumerate(writers)
    ]


def _take(
    writer: Writer, requests: list[Request], answers: list[Completion], task: Task, config: Config, known: list[Entry]
) -> None:
    """Accepts or rejects the answers of one round."""
    endpoint, label = writer.generator.endpoint, writer.generator.label
    for asked, written in zip(requests, answers, strict=True):
        template, _ = repair(PromptTemplate(text=written.text))
        unanswered = None if written.finished else "unfinished" if written.text else written.missing
        reason = (
            unanswered or rejection(template, task, max_words=config.prompts.max_words) or broken_rule(template, task)
        )
        if reason is None and near([Entry(template=template)], known, config.prompts.similarity):
            reason = "near_duplicate"
        if reason is None and len(writer.accepted) >= writer.target:
            reason = "surplus"
        share = grammar_share(template, task) if endpoint is None or endpoint.grammar else 0.0
        origin = {"strategy": asked.strategy, "axes": asked.axes, "grammar_share": share}
        writer.raw.append({"generator": label, **origin, "text": written.text, "rejected": reason})
        writer.tokens += written.tokens
        if reason is None:
            entry = Entry(template=template, provenance={"source": label, **origin, "attempt": writer.rounds})
            writer.accepted.append(entry)
            known.append(entry)
    writer.silent = endpoint is not None and not any(written.text for written in answers)


def _share(total: int, parts: int, number: int) -> int:
    return total // parts + (number < total % parts)
