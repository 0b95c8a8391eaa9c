"""Judges of known quality for tests: they know the truth of every text, and see it through noise."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from paft_ray.config import EngineConfig, GeneratorConfig
from paft_ray.generators.quality.calibration import hand_written, shuffled
from paft_ray.generators.quality.question import Question
from paft_ray.generators.quality.signal import Pair
from paft_ray.generators.quality.writers import FIRST_FORCED
from paft_ray.generators.requests import Completion, Request
from paft_ray.generators.rounds import Write
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task

Truth = Callable[[PromptTemplate], int | None]
"""Template -> number of the option that it asks for; None: nothing that is clear."""


def known_judge(truth: Truth, *, sharpness: float) -> Callable[..., Mapping[str, list[list[float]]]]:
    """What a judge answers whose log-odds for the right option are `sharpness` above the others, with noise of standard
    deviation 1 that the text decides."""

    def ask(question: Question, templates: Sequence[PromptTemplate]) -> dict[str, list[list[float]]]:
        return {
            template.id: [_answer(question, template, truth, sharpness, order) for order in (0, 1)]
            for template in templates
        }

    return ask


def _answer(question: Question, template: PromptTemplate, truth: Truth, sharpness: float, order: int) -> list[float]:
    number = len(question.task.label_texts)
    seed = int.from_bytes(hashlib.sha256(template.id.encode()).digest()[:8])
    logits = np.random.default_rng(seed).normal(size=number)
    right = truth(template)
    logits[number - 1 if right is None else right] += sharpness
    logprobs = logits - math.log(np.exp(logits).sum())
    return [float(value) for value in (logprobs if order == 0 else logprobs[::-1])]


def without_forced(write: Write) -> Write:
    """A generator that writes nothing when it is asked for templates of other tasks, to calibrate a judge with."""

    def only_candidates(
        requests: Sequence[Request], generator: GeneratorConfig, engine: EngineConfig, seed: int
    ) -> tuple[list[Completion], int]:
        if requests[0].number >= FIRST_FORCED:
            return [Completion(text="", finished=False)] * len(requests), 0
        return write(requests, generator, engine, seed)

    return only_candidates


class Trusting:
    """A signal that knows the hand-written templates, and takes every other text for one that asks for its task."""

    name, threshold = "trusting", 1.0

    def __init__(self, question: Question) -> None:
        self.asked: dict[str, Task | None] = {}
        for pair in hand_written([], 0.7):
            option = question.option_of(pair.task)
            self.asked[pair.template.id] = None if option is None else question.options[option]
            self.asked.setdefault(shuffled(pair.template).id, None)

    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        return [2.0 if self.asked.get(pair.template.id, pair.task) is pair.task else -2.0 for pair in pairs]


def trusting(generator: GeneratorConfig, question: Question) -> list[Trusting]:
    """For tests of what comes before and after the review: nothing is rejected by it."""
    return [Trusting(question)]
