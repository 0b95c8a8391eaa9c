"""The review of what models wrote: a signal that its calibration allows to decides which candidates may be used; where
there is none, none is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from paft_ray.config import GeneratorConfig
from paft_ray.generators.quality.calibration import (
    FORCED,
    Calibration,
    Known,
    calibration,
    hand_written,
    in_parts,
    known_pairs,
    scored,
)
from paft_ray.generators.quality.question import Question
from paft_ray.generators.quality.signal import Pair, Signal
from paft_ray.metrics.discrimination import Scored
from paft_ray.prompts.checks.verdict import Verdict
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task

NO_SIGNAL, NOT_SURE = "no_trusted_signal", "not_sure"
"""Reasons: no signal may decide; one that may is not sure that the template asks for the task."""


Signals = Callable[[GeneratorConfig, Question], Sequence[Signal]]
"""The signals that are tried for what a generator wrote, until one may decide."""


@dataclass(frozen=True, kw_only=True)
class Reviewed:
    """What became of the candidates of one generator."""

    generator: str
    calibrations: tuple[Calibration, ...]
    """Of the signals that were tried, in order; the last one may decide, or none may."""
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    """Content id -> verdict, of every candidate that was given."""

    @property
    def decided_by(self) -> str | None:
        """Name of the signal that decided; None: none may."""
        return next((each.signal for each in self.calibrations if each.may_decide), None)


@dataclass(frozen=True, kw_only=True)
class Reviewer:
    """What candidates of a run are reviewed with."""

    task: Task
    seeds: Sequence[PromptTemplate]
    held_out: Sequence[PromptTemplate]
    """Given ones, which no signal gets to see."""
    similarity: float
    seed: int
    signals: Signals
    forced: Callable[[GeneratorConfig], Sequence[PromptTemplate]]
    """What a generator writes for other tasks with the fields and labels of this one, as far as gate and rules let it
    through; asked for only where a signal tells hand-written templates apart."""

    def review(self, generator: GeneratorConfig, candidates: Sequence[PromptTemplate]) -> Reviewed:
        """Verdicts on what a generator wrote. Raises as the signals do."""
        question, tried = Question.about(self.task), []
        written = {pair.template.id: pair for pair in hand_written(self.held_out, self.similarity)}
        written |= {pair.template.id: pair for pair in self._pairs(self.seeds)}
        known = known_pairs(list(written.values()), question)
        for signal in self.signals(generator, question) if candidates else ():
            found, scores = self._scores(signal, known, generator, candidates)
            tried.append(found)
            if scores is not None:
                verdicts = [_verdict(score, signal.threshold) for score in scores]
                return _reviewed(generator, tried, candidates, verdicts)
        unjudged = Verdict(score=None, passed=False, reason=NO_SIGNAL)
        return _reviewed(generator, tried, candidates, [unjudged] * len(candidates))

    def _scores(
        self, signal: Signal, known: Sequence[Known], generator: GeneratorConfig, candidates: Sequence[PromptTemplate]
    ) -> tuple[Calibration, list[float] | None]:
        """(What the signal is worth, its scores of the candidates; None where it may not decide)."""
        first, rest = in_parts(known, self.seeds)
        items, of_seeds = self._asked(signal, first, self.seeds)
        found = self._calibration(signal, items, of_seeds)
        if not found.is_hopeless and rest:
            items += self._asked(signal, rest, [])[0]
            found = self._calibration(signal, items, of_seeds)
        if not found.may_decide:
            return found, None
        forced = [Known(pair=pair, kind=FORCED, text=pair.template.id) for pair in self._pairs(self.forced(generator))]
        of_generator, scores = self._asked(signal, forced, candidates)
        found = self._calibration(signal, [*items, *of_generator], of_seeds)
        return found, scores if found.may_decide else None

    def _asked(
        self, signal: Signal, known: Sequence[Known], templates: Sequence[PromptTemplate]
    ) -> tuple[list[Scored], list[float]]:
        """(The known pairs with what the signal says of them, what it says of other templates), asked at once."""
        found = signal.scores([*(each.pair for each in known), *self._pairs(templates)])
        return scored(known, found[: len(known)]), found[len(known) :]

    def _calibration(self, signal: Signal, items: Sequence[Scored], of_seeds: Sequence[float]) -> Calibration:
        return calibration(signal, items, of_seeds, np.random.default_rng(self.seed))

    def _pairs(self, templates: Sequence[PromptTemplate]) -> list[Pair]:
        return [Pair(template=template, task=self.task) for template in templates]


def _verdict(score: float, threshold: float) -> Verdict:
    """A score that is NaN passes nothing."""
    sure = score >= threshold
    return Verdict(score=score if score == score else None, passed=sure, reason=None if sure else NOT_SURE)


def _reviewed(
    generator: GeneratorConfig,
    tried: Sequence[Calibration],
    candidates: Sequence[PromptTemplate],
    verdicts: Sequence[Verdict],
) -> Reviewed:
    by_id = {template.id: verdict for template, verdict in zip(candidates, verdicts, strict=True)}
    return Reviewed(generator=generator.label, calibrations=tuple(tried), verdicts=by_id)
