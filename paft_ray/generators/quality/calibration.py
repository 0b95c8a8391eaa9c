"""Calibration: a signal may decide only where it tells known positives from known negatives.

Positives are the hand-written templates of the tasks that ship and the user's seed templates, each for its own task.
Negatives are the same templates for the others of these tasks, their words in another order, and what the generator
itself wrote for other tasks when this task's fields and labels were forced into it, which is what its nonsense looks
like. Positives and negatives are compared for one task at a time. Held-out templates of the run, and near-copies of
them, are no part of it.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from paft_ray.config import located
from paft_ray.generators.quality.question import Question
from paft_ray.generators.quality.signal import Pair, Signal
from paft_ray.metrics.discrimination import Discrimination, Scored, discrimination
from paft_ray.prompts.prompt_set import Entry, read_templates
from paft_ray.prompts.split import near
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import built_in_tasks

LEAST_AUC = 0.85
"""The lower end of the interval of the AUC from which a signal may decide."""
_LEAST_TEXTS = 20
"""Positives, and negatives of each kind, below which an AUC means little."""
_PARTS = 3
"""One in this many texts is asked about first."""
_LEAST_SEEDS = 0.8
"""Fraction of the user's own seed templates that a signal must be sure of."""
OTHER_TASK, SHUFFLED, FORCED = "other_task", "shuffled", "forced"
"""Kinds of negatives."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A question whose answer is known."""

    pair: Pair
    kind: str | None
    """What kind of negative it is; None: the template asks for the task."""
    text: str
    """Content id of the template that it is made of."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What is known of a signal."""

    signal: str
    found: Discrimination | None
    """None: too few texts."""
    num_seeds: int
    num_sure_seeds: int
    """The user's seed templates, and those of them that the signal is sure of."""
    counts: dict[str, int]
    """Kind of negatives -> how many there were."""

    @property
    def reason(self) -> str | None:
        """Why the signal may not decide, None where it may."""
        if self.found is None:
            return "too few texts to calibrate with"
        if not self.num_seeds:
            return "the task has no seed templates to try it on"
        if self.found.auc.low < LEAST_AUC:
            return f"the lower end of its AUC is below {LEAST_AUC}"
        if (of_generator := self.found.by_kind.get(FORCED, 1.0)) < LEAST_AUC:
            return f"its AUC is {of_generator:.2f} against what the generator writes for other tasks"
        if self._knows_too_few_seeds:
            return f"it is sure of {self.num_sure_seeds} of {self.num_seeds} seed templates"
        return None

    @property
    def may_decide(self) -> bool:
        """Whether what the signal says of candidates counts."""
        return self.reason is None

    @property
    def is_hopeless(self) -> bool:
        """Whether it may not decide, and more texts would hardly change that."""
        return self._knows_too_few_seeds or (self.found is not None and self.found.auc.high < LEAST_AUC)

    @property
    def _knows_too_few_seeds(self) -> bool:
        """Also where there are none."""
        return not self.num_seeds or self.num_sure_seeds < _LEAST_SEEDS * self.num_seeds


def hand_written(held_out: Sequence[PromptTemplate], similarity: float) -> list[Pair]:
    """The templates of the tasks that ship, each with its task; without those that are, or are near, a held-out one of
    the run."""
    found = [
        Pair(template=template, task=task)
        for task in built_in_tasks()
        for path in (task.seed_templates, task.held_out_templates)
        if path is not None
        for template in read_templates(located("templates", path))
    ]
    leaks = near(_entries(pair.template for pair in found), _entries(held_out), similarity)
    return [pair for pair in found if pair.template.id not in leaks]


def _entries(templates: Iterable[PromptTemplate]) -> list[Entry]:
    return [Entry(template=template) for template in templates]


def known_pairs(written: Sequence[Pair], question: Question) -> list[Known]:
    """Positives and negatives: every hand-written template for its own task, for each other task that some of them ask
    for, and shuffled."""
    options = [question.option_of(pair.task) for pair in written]
    asked_for = sorted({number for number in options if number is not None})
    found = []
    for pair, number in zip(written, options, strict=True):
        if number is None:
            continue
        own, name = question.options[number], pair.template.id
        found.append(Known(pair=Pair(template=pair.template, task=own), kind=None, text=name))
        found += [
            Known(pair=Pair(template=pair.template, task=question.options[other]), kind=OTHER_TASK, text=name)
            for other in asked_for
            if other != number
        ]
        found.append(Known(pair=Pair(template=shuffled(pair.template), task=own), kind=SHUFFLED, text=name))
    return found


def in_parts(known: Sequence[Known], seeds: Iterable[PromptTemplate]) -> tuple[list[Known], list[Known]]:
    """(What is made of the seed templates and of one in three texts of every task, the rest): the first part is enough
    to refuse a signal that knows nothing. Of few texts all are in it."""
    texts = list(dict.fromkeys(each.text for each in known))
    first = {*(texts[::_PARTS] if len(texts) >= _PARTS * _LEAST_TEXTS else texts), *(seed.id for seed in seeds)}
    return [each for each in known if each.text in first], [each for each in known if each.text not in first]


def shuffled(template: PromptTemplate) -> PromptTemplate:
    """The words of a template in an order fixed by its content id."""
    words = re.findall(r"\S+", template.text)
    order = random.Random(hashlib.sha256(template.id.encode()).digest())
    order.shuffle(words)
    return PromptTemplate(text=" ".join(words), system=template.system)


def scored(known: Sequence[Known], scores: Sequence[float]) -> list[Scored]:
    """The known pairs with what a signal says of them."""
    return [
        Scored(score=score, kind=each.kind, question=each.pair.task.description, text=each.text)
        for each, score in zip(known, scores, strict=True)
    ]


def calibration(
    signal: Signal, items: Sequence[Scored], seed_scores: Sequence[float], rng: np.random.Generator
) -> Calibration:
    """What a signal is worth on known pairs and on the user's seed templates.

    Kinds of negatives with too few texts are left out: what generators write for other tasks is little where gate and
    rules reject it.
    """
    counts = Counter(item.kind for item in items)
    kept = [item for item in items if counts[item.kind] >= _LEAST_TEXTS]
    kinds = {item.kind for item in kept}
    enough = None in kinds and len(kinds) > 1
    return Calibration(
        signal=signal.name,
        found=discrimination(kept, rng) if enough else None,
        num_seeds=len(seed_scores),
        num_sure_seeds=sum(score >= signal.threshold for score in seed_scores),
        counts={str(kind): number for kind, number in counts.items() if kind is not None},
    )
