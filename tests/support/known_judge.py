"""Judges of known quality for tests: they know the truth of every text, and see it through noise."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from paft_ray.generators.quality.question import Question
from paft_ray.prompts.template import PromptTemplate

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
