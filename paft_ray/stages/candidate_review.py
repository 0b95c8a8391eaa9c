"""The review of candidates in stage `synthesize`: what it asks, what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from paft_ray.config import GeneratorConfig
from paft_ray.generators.quality.registry import Models, signals
from paft_ray.generators.quality.review import Reviewed, Reviewer, Signals
from paft_ray.generators.quality.spending import Spending
from paft_ray.generators.quality.writers import forced_templates, quality, review_writers
from paft_ray.generators.requests import Completion, Request
from paft_ray.generators.rounds import Write
from paft_ray.generators.writer import Writer
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.manifests import SYNTHESIZE
from paft_ray.storage.quality import Quality


@dataclass(kw_only=True)
class CandidateReview:
    """Rejects what generators wrote and no signal is sure of."""

    resolved: ResolvedRun
    seeds: Sequence[PromptTemplate]
    """The user's, without near-copies of held-out ones."""
    unseen: Sequence[PromptTemplate]
    """Given held-out templates, and those that a person rejected."""
    write: Write
    signals: Signals | None
    """None: those of the configuration."""
    spending: Spending = field(default_factory=Spending)
    found: list[Reviewed] = field(default_factory=list)

    def __call__(self, writers: Sequence[Writer]) -> None:
        """Rejects candidates of these writers."""
        self.found = review_writers(writers, self._reviewer())

    def quality(self, writers: Sequence[Writer]) -> Quality:
        """What synthesize/quality.json holds; `writers`: with their final verdicts."""
        return quality(writers, self.found)

    def _reviewer(self) -> Reviewer:
        config = self.resolved.config
        return Reviewer(
            task=self.resolved.task,
            seeds=self.seeds,
            held_out=self.unseen,
            similarity=config.prompts.similarity,
            seed=config.seed,
            signals=self.signals or self._judges(),
            forced=self._forced,
        )

    def _judges(self) -> Signals:
        from paft_ray.inference.answer_cache import AnswerCache

        config = self.resolved.config
        models = Models(
            judge=config.prompts.judge,
            model_of=self.resolved.generator_model,
            engine=config.engine,
            cache=AnswerCache.of(self.resolved.store, SYNTHESIZE),
            insecure_hosts=config.insecure_hosts,
            spending=self.spending,
        )
        return lambda generator, question: signals(generator, question, models)

    def _forced(self, generator: GeneratorConfig) -> list[PromptTemplate]:
        return forced_templates(self.resolved.task, generator, self.resolved.config, self._ask)

    def _ask(self, requests: Sequence[Request], generator: GeneratorConfig) -> list[Completion]:
        config = self.resolved.config
        answers, starts = self.write(requests, self.spending.left(generator), config.engine, config.seed)
        self.spending.engine_starts += starts
        self.spending.tokens[generator.label] += sum(answer.tokens for answer in answers)
        return answers
