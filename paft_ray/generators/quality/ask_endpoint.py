"""The judge behind an OpenAI-compatible endpoint: it answers with a letter, which the grader of choices reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paft_ray.config import GeneratorConfig
from paft_ray.generators.openai import write_templates
from paft_ray.generators.quality.question import Question
from paft_ray.generators.requests import Request
from paft_ray.inference.answer_cache import AnswerCache
from paft_ray.prompts.template import PromptTemplate


def ask_endpoint(
    question: Question,
    templates: Sequence[PromptTemplate],
    *,
    model: GeneratorConfig,
    cache: AnswerCache,
    insecure_hosts: Sequence[str] = (),
) -> tuple[Mapping[str, list[list[float]]], int]:
    """(Content id -> [order][letter] log-probabilities, 0 for the letter that was said; a template without an answer is
    absent, an answer without a letter has NaN; generated tokens). Raises as `write_templates`."""
    asked = [(template, order) for template in templates for order in question.templates]
    letters = "|".join(question.task.label_texts)
    requests = [
        Request(
            number=number,
            message=order.render(question.example(template).fields),
            regex=f"({letters})",
            strategy="zero_shot",
            axes=({},),
        )
        for number, (template, order) in enumerate(asked)
    ]
    found: dict[str, list[list[float]]] = {}
    answers = write_templates(requests, model, 0, cache.lasting, insecure_hosts)
    for (template, _), said in zip(asked, answers, strict=True):
        if said.text:
            found.setdefault(template.id, []).append(question.as_logprobs(question.task.grader.parse(said.text)))
    complete = {name: read for name, read in found.items() if len(read) == len(question.templates)}
    return complete, sum(said.tokens for said in answers)
