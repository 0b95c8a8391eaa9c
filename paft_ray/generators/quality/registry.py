"""Signals by name: what is tried, in this order, until one may decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from paft_ray.config import EngineConfig, GeneratorConfig
from paft_ray.generators.quality.judge import Ask, Judge
from paft_ray.generators.quality.question import Question
from paft_ray.generators.quality.signal import Signal
from paft_ray.models.reference import ModelFiles

if TYPE_CHECKING:
    from paft_ray.inference.answer_cache import AnswerCache


@dataclass(frozen=True, kw_only=True)
class Models:
    """How signals reach models."""

    judge: GeneratorConfig
    """The model that is asked, which runs in the cluster."""
    files: ModelFiles
    """Its files."""
    engine: EngineConfig
    cache: AnswerCache


def _judge(generator: GeneratorConfig, question: Question, models: Models) -> Signal:
    return Judge(model=models.judge.label, question=question, ask=asking(models))


def asking(models: Models) -> Ask:
    """What asks the judge's question of the model."""
    from paft_ray.generators.quality.ask_engine import ask_engine

    return partial(ask_engine, model=models.files, engine=models.engine, cache=models.cache)


SIGNALS: Mapping[str, Callable[[GeneratorConfig, Question, Models], Signal]] = {"judge": _judge}
"""Name -> what makes the signal for a generator."""


def signals(generator: GeneratorConfig, question: Question, models: Models) -> Sequence[Signal]:
    """Every signal, for what one generator wrote."""
    return [make(generator, question, models) for make in SIGNALS.values()]
