"""Signals by name: what is tried, in this order, until one may decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paft_ray.config import EngineConfig, GeneratorConfig, JudgeConfig
from paft_ray.generators.quality.judge import Ask, Judge
from paft_ray.generators.quality.question import Question
from paft_ray.generators.quality.signal import Signal
from paft_ray.generators.quality.spending import Spending
from paft_ray.models.reference import ModelFiles
from paft_ray.prompts.template import PromptTemplate

if TYPE_CHECKING:
    from paft_ray.inference.answer_cache import AnswerCache


@dataclass(frozen=True, kw_only=True)
class Models:
    """How signals reach models."""

    judge: JudgeConfig | None
    """None: each generator judges what it wrote."""
    model_of: Callable[[GeneratorConfig], ModelFiles]
    """The files of a model that runs in the cluster."""
    engine: EngineConfig
    cache: AnswerCache
    insecure_hosts: tuple[str, ...] = ()
    spending: Spending = field(default_factory=Spending)
    """Of all questions."""


def _judge(generator: GeneratorConfig, question: Question, models: Models) -> Signal:
    settings = (models.judge or JudgeConfig.of(generator)).model
    return Judge(model=settings.label, question=question, ask=asking(settings, models))


def asking(settings: GeneratorConfig, models: Models) -> Ask:
    """What asks a judge's question of this model, and keeps to what is left of its token limit."""
    return _asking_engine(settings, models) if settings.endpoint is None else _asking_endpoint(settings, models)


def _asking_engine(settings: GeneratorConfig, models: Models) -> Ask:
    from paft_ray.generators.quality.ask_engine import ask_engine

    model, spending = models.model_of(settings), models.spending

    def ask(question: Question, templates: Sequence[PromptTemplate]) -> Mapping[str, Sequence[Sequence[float]]]:
        found, starts = ask_engine(question, templates, model=model, engine=models.engine, cache=models.cache)
        spending.engine_starts += starts
        return found

    return ask


def _asking_endpoint(settings: GeneratorConfig, models: Models) -> Ask:
    from paft_ray.generators.quality.ask_endpoint import ask_endpoint

    spending = models.spending

    def ask(question: Question, templates: Sequence[PromptTemplate]) -> Mapping[str, Sequence[Sequence[float]]]:
        found, tokens = ask_endpoint(
            question,
            templates,
            model=spending.left(settings),
            cache=models.cache,
            insecure_hosts=models.insecure_hosts,
        )
        spending.tokens[settings.label] += tokens
        return found

    return ask


SIGNALS: Mapping[str, Callable[[GeneratorConfig, Question, Models], Signal]] = {"judge": _judge}
"""Name -> what makes the signal for a generator."""


def signals(generator: GeneratorConfig, question: Question, models: Models) -> Sequence[Signal]:
    """Every signal, for what one generator wrote."""
    return [make(generator, question, models) for make in SIGNALS.values()]
