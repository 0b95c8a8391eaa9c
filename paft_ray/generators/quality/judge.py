"""Signal `judge`: a model says which task a text asks for, in two orders of the options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from paft_ray.generators.quality.question import Question
from paft_ray.generators.quality.signal import Pair
from paft_ray.prompts.template import PromptTemplate

Ask = Callable[[Question, Sequence[PromptTemplate]], Mapping[str, Sequence[Sequence[float]]]]
"""(question, templates) -> content id -> [order][letter] log-probability of each letter. A template that got no answer
is absent."""
SURE = 1.0
"""Log-odds in nats: the task is e times as probable as all other options together, in both orders."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A model that is asked `which task does this text ask for?`."""

    model: str
    """Its name."""
    question: Question
    ask: Ask

    @property
    def name(self) -> str:
        return f"judge {self.model}"

    @property
    def threshold(self) -> float:
        return SURE

    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        """Log-odds of the pair's task, the smaller one of both orders. Each template is asked about once, whatever the
        number of tasks."""
        templates = {pair.template.id: pair.template for pair in pairs}
        answers = self.ask(self.question, list(templates.values()))
        return [self._score(pair, answers) for pair in pairs]

    def _score(self, pair: Pair, answers: Mapping[str, Sequence[Sequence[float]]]) -> float:
        option, found = self.question.option_of(pair.task), answers.get(pair.template.id)
        return float("nan") if option is None or found is None else self.question.log_odds(option, found)
