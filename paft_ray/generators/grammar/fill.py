"""The generator `grammar` in a run: what models leave missing is composed, and judged like all candidates."""

from __future__ import annotations

from collections.abc import Sequence

from paft_ray.config import Config, GeneratorConfig
from paft_ray.generators.grammar.compose import diverse_templates
from paft_ray.generators.rounds import select
from paft_ray.generators.writer import Candidate, Writer
from paft_ray.prompts.checks.rules import refusal
from paft_ray.prompts.prompt_set import Entry
from paft_ray.prompts.similarity import Known
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task

_OVER = 2  # templates composed, for each one that is wanted


def fill_up(
    config: Config, task: Task, seeds: Sequence[PromptTemplate], others: Sequence[Entry], writers: Sequence[Writer]
) -> list[Writer]:
    """The grammars of the configuration with their candidates: as many are kept as `writers` leave missing of
    `prompts.num_candidates`, or `num_templates` where a grammar names it. Near-copies of `others` and of what is kept
    are rejected. Raises `UserError` where the task's words do not fit into sentences."""
    settings, filled = config.prompts, list[Writer]()
    for generator in settings.generators:
        if generator.type == "grammar":
            kept = [entry for writer in (*writers, *filled) for entry in writer.accepted]
            target = generator.num_templates or max(0, settings.num_candidates - len(kept))
            filling = _composed(generator, target, task, config, [*others, *kept])
            select([filling], [*seeds, *(entry.template for entry in kept)], settings.similarity)
            filled.append(filling)
    return filled


def _composed(generator: GeneratorConfig, target: int, task: Task, config: Config, known: Sequence[Entry]) -> Writer:
    """The generator with twice as many candidates as are wanted; those that the gate or a rule refuses, near-copies of
    `known` or of each other, and those of a frame that is held out are rejected."""
    writer = Writer(generator=generator, target=target, per_answer=1)
    held_out = {entry.provenance.get("frame") for entry in known if entry.provenance["source"] == "held_out"} - {None}
    texts = Known((entry.template for entry in known), config.prompts.similarity)
    for number, template in enumerate(diverse_templates(task, _OVER * target, config.seed)):
        candidate = Candidate(
            template=template,
            text=template.text,
            request=number,
            origin={"strategy": "grammar", "axes": {}, "grammar_share": 0.0, "frame": template.frame},
            attempt=1,
            rejected=refusal(template, task, max_words=config.prompts.max_words),
        )
        if candidate.rejected is None and template.frame in held_out:
            candidate.rejected = "held_out_frame"
        if candidate.rejected is None and not texts.add(template):
            candidate.rejected = "near_duplicate"
        writer.candidates.append(candidate)
    return writer
