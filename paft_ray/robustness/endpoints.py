"""A model behind an OpenAI-compatible endpoint: every cell is one chat request, whose text is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from paft_ray.config import Config, GeneratorConfig
from paft_ray.errors import StageError
from paft_ray.generators.openai import write_templates
from paft_ray.generators.requests import Completion, Request
from paft_ray.inference.answer_cache import AnswerCache
from paft_ray.prompts.template import PromptTemplate
from paft_ray.prompts.variations.variant import posed
from paft_ray.stages.evaluate import Evaluation
from paft_ray.storage.manifests import ModelKey
from paft_ray.storage.schemas import ANSWERS, EVALUATED, MOST_SAID
from paft_ray.tasks.task import Example, Task


def ask_endpoint(
    model: GeneratorConfig,
    key: ModelKey,
    task: Task,
    templates: Sequence[PromptTemplate],
    examples: Sequence[Example],
    cache: AnswerCache,
    config: Config,
    cells: NDArray[np.bool_] | None = None,
) -> Evaluation:
    """What it answers to every example under every template (or in `cells` [templates, examples]), judged: behavior and
    strict; there is no choice among the labels. Answers are kept in `cache`, which is not deleted: they cost money.

    Raises `UserError` where the key is missing or refused, `StageError` where more requests fail than
    `engine.max_failed_fraction`.
    """
    asked = [
        (template, example)
        for t, template in enumerate(templates)
        for e, example in enumerate(examples)
        if cells is None or cells[t, e]
    ]
    requests = [_request(*cell) for cell in asked]
    distinct = list(dict.fromkeys(requests))
    answers = write_templates(distinct, model, config.seed, cache.lasting, config.insecure_hosts)
    by_request = dict(zip(distinct, answers, strict=True))
    said = [by_request[request] for request in requests]
    answered = [(cell, answer) for cell, answer in zip(asked, said, strict=True) if answer.text or not answer.missing]
    failed = len(asked) - len(answered)
    if failed > config.engine.max_failed_fraction * len(asked):
        raise StageError(
            f"{model.label}: {failed} of {len(asked)} requests got no answer "
            f"(engine.max_failed_fraction={config.engine.max_failed_fraction})"
        )
    tokens = {key.arm: sum(answer.tokens for answer in answers)}
    return _evaluation(task, key, answered, {"num_failed": failed, "endpoint_tokens": tokens}, config)


def _evaluation(
    task: Task,
    key: ModelKey,
    answered: Sequence[tuple[tuple[PromptTemplate, Example], Completion]],
    counts: Mapping[str, object],
    config: Config,
) -> Evaluation:
    """The judged answers. `counts`: of the manifest."""
    rows = [_outcome(task, key, *cell, answer) for cell, answer in answered]
    texts = [
        {**{name: row[name] for name in ANSWERS.names if name != "text"}, "text": answer.text}
        for row, (_, answer) in zip(rows, answered, strict=True)
    ]
    none = dict.fromkeys(("engine_starts", "num_kept", "num_truncated"), 0)
    return Evaluation(
        outcomes=pa.Table.from_pylist(rows, schema=EVALUATED),
        answers=None if task.label_texts else pa.Table.from_pylist(texts, schema=ANSWERS),
        speed={},
        manifest={
            **none,
            **counts,
            "num_rows": len(rows),
            "failures": [],
            "nodes": [],
            "budget": config.evaluate.budget,
        },
    )


def _request(template: PromptTemplate, example: Example) -> Request:
    """Equal for equal prompts, which are sent and paid for once."""
    cell = posed(template, example)
    return Request(
        number=0,
        message=cell.template.render(cell.example.fields),
        regex="",
        strategy="zero_shot",
        axes=(),
        instruction=cell.template.system,
    )


def _outcome(
    task: Task, key: ModelKey, template: PromptTemplate, example: Example, said: Completion
) -> Mapping[str, object]:
    """A row of `EVALUATED`."""
    cell, grader = posed(template, example), task.grader
    named = grader.parse(said.text)
    strictly = None if named is None else grader.parse_strict(said.text)
    behavior, strict = (
        0.0 if found is None else float(grader.score(found, cell.example)) for found in (named, strictly)
    )
    return {
        "template_id": template.id,
        "example_id": example.id,
        "answer": example.answer,
        "predicted": None if task.label_texts or named is None else named,
        "parsed": named is not None,
        "correct": None if task.label_texts else behavior == 1,
        "logprob": None,
        "behavior": behavior,
        "strict": strict,
        "named": None if named is None else cell.label(named),
        "said": said.text[:MOST_SAID] if task.label_texts else None,
        "num_tokens": None,
        "label_logprobs": None,
        "label_mass": None,
        "arm": key.arm,
        "seed": key.seed,
    }
