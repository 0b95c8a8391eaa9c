"""Section `prompts`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from paft_ray.config.base import Fraction, Place, Positive, Section
from paft_ray.config.generator import GeneratorConfig, generator_key
from paft_ray.config.judge import JudgeConfig

Strategy = Literal["zero_shot", "few_shot", "paraphrase"]


class PromptsConfig(Section):
    """Stage `synthesize`: where templates come from, the gate, and the leak-free split."""

    seed_templates: Place | None = None
    """JSONL file of user templates (rows with `text`, optional `system`); `builtin` takes the task's own. The first one
    is the template of arm `sft`."""
    held_out_templates: Place | None = None
    """JSONL file of templates never trained on (rows may name a `group`); `builtin` takes the task's own. Default:
    split 8:1 by cluster from all candidates."""
    decisions: Place | None = None
    """JSONL file of decisions (`id`, `decision`: accept or reject) that the page of `paft prompts review RUN` wrote. A
    rejected template is never in the prompt set, an accepted one is unless the gate refuses it or it is a near-copy of
    a held-out one."""
    generators: tuple[GeneratorConfig, ...] = ()
    """What writes candidates; none: only the user's templates are used."""
    judge: JudgeConfig | None = None
    """The model that says which candidates of models ask for the task; default: each model judges what it wrote."""
    num_candidates: Positive = 40
    """Target number of accepted synthesized templates, shared between the models; a grammar fills up what is
    missing."""
    max_rounds: Positive = 4
    """Rounds of generation at most; each asks for what is still missing. The run says what it got."""
    num_few_shot: Positive = 3
    """Example templates shown in a few-shot request."""
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)] = (
        "zero_shot",
        "few_shot",
        "zero_shot",
        "paraphrase",
    )
    """What requests do in turn: show no template (half of them, as in the paper, section 3.1), show seed templates as
    examples, or ask to rewrite one. Without seed templates all are zero-shot."""
    num_shared_examples: Annotated[int, Field(ge=0)] = 0
    """Training rows, with their answers, shown in every request to a generator, endpoints outside the cluster included;
    0: no row is shown."""
    max_words: Positive = 120
    """Longest template in words."""
    similarity: Fraction = 0.7
    """Jaccard similarity (words, or word trigrams) from which two templates are near-duplicates (one cluster)."""
    held_out_fraction: Fraction = 1 / 9
    """Fraction of templates held out when no file is given (8:1, paper section 3.1)."""
    min_held_out: Annotated[int, Field(ge=2)] = 12
    """Fewest held-out templates: below 12 the spread over templates means little."""

    @property
    def writing_models(self) -> tuple[GeneratorConfig, ...]:
        """Generators that are models."""
        return tuple(generator for generator in self.generators if generator.type != "grammar")

    @property
    def judging_model(self) -> GeneratorConfig | None:
        """That of `judge`, where it is given and a model writes what it could judge."""
        return self.judge.model if self.judge and self.writing_models else None

    @property
    def asked_models(self) -> tuple[GeneratorConfig, ...]:
        """Every model that is asked: generators, then the judge."""
        judge = self.judging_model
        return self.writing_models if judge is None else (*self.writing_models, judge)

    @property
    def local_models(self) -> tuple[GeneratorConfig, ...]:
        """Those that run in the cluster, on an engine."""
        return tuple(model for model in self.asked_models if model.endpoint is None)

    @property
    def num_wanted(self) -> int:
        """Templates wanted from all generators: `num_candidates`, and those of grammars that have a number of their
        own."""
        shared = self.num_candidates if any(each.num_templates is None for each in self.generators) else 0
        return shared + sum(each.num_templates or 0 for each in self.generators)


def prompts_key(prompts: PromptsConfig) -> dict[str, Any]:
    """The settings that decide the prompt set; the decisions themselves stand with the templates."""
    key = prompts.model_dump(
        mode="json",
        exclude={"generators", "judge", "decisions"}
        | (set() if prompts.num_shared_examples else {"num_shared_examples"}),
    )
    judge = prompts.judging_model
    key |= {} if judge is None else {"judge": generator_key(judge)}
    return {**key, "generators": [generator_key(generator) for generator in prompts.generators]}
