"""A model behind an OpenAI-compatible endpoint: every cell is one chat request, whose text is judged; so is the choice
among the labels, where the server says how probable first tokens were."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from paft_ray.config import Config, GeneratorConfig
from paft_ray.errors import StageError
from paft_ray.generators.openai import write_templates
from paft_ray.generators.requests import Completion, Request
from paft_ray.inference.answer_cache import AnswerCache
from paft_ray.log import get_logger
from paft_ray.prompts.template import PromptTemplate
from paft_ray.prompts.variations.variant import Posed, posed
from paft_ray.robustness.first_token import label_logprobs, normalized
from paft_ray.stages.evaluate import Evaluation
from paft_ray.storage.manifests import ModelKey
from paft_ray.storage.schemas import ANSWERS, EVALUATED, MOST_SAID
from paft_ray.tasks.task import Example, Task

_log = get_logger(__name__)
_NUM_TOP = 20
"""The most that OpenAI's own servers and vLLM's give unless told otherwise."""


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
    strict, and knowledge where the server gives log-probabilities and every first position shows a label. Answers are
    kept in `cache`.

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
    send = partial(write_templates, seed=config.seed, cache=cache, insecure_hosts=config.insecure_hosts)
    if task.label_texts and distinct:
        asking = _asking_logprobs(model)
        if send(distinct[:1], asking)[0].missing == "refused":
            _log.info(f"[{key.arm}] refuses log-probabilities: asked without")
        else:
            model = asking
    answers = send(distinct, model)
    by_request = dict(zip(distinct, answers, strict=True))
    said = [by_request[request] for request in requests]
    answered = [(cell, answer) for cell, answer in zip(asked, said, strict=True) if answer.text or not answer.missing]
    failed = len(asked) - len(answered)
    if failed > config.engine.max_failed_fraction * len(asked):
        capped = any(answer.missing == "token_cap" for answer in said)
        reason = "endpoint.max_total_tokens is used up" if capped else "see above"
        raise StageError(
            f"{model.label}: {failed} of {len(asked)} requests got no answer ({reason}; "
            f"engine.max_failed_fraction={config.engine.max_failed_fraction})"
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
    cells = [posed(*cell) for cell, _ in answered]
    rows = [_outcome(task, key, *each, cell) for each, cell in zip(answered, cells, strict=True)]
    chosen = [_choice(task, answer, cell) for (_, answer), cell in zip(answered, cells, strict=True)]
    if (unknown := chosen.count(None)) == 0:
        rows = [{**row, **(choice or {})} for row, choice in zip(rows, chosen, strict=True)]
    elif task.label_texts:
        _log.info(
            f"[{key.arm}] {unknown} of {len(chosen)} answers do not show a choice at their first token: no knowledge"
        )
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


def _asking_logprobs(model: GeneratorConfig) -> GeneratorConfig:
    """The same model, asked for the most probable first tokens, too, unless its requests say otherwise."""
    assert model.endpoint is not None
    request = {"logprobs": True, "top_logprobs": _NUM_TOP, **model.endpoint.request}
    return model.model_copy(update={"endpoint": model.endpoint.model_copy(update={"request": request})})


def _choice(task: Task, said: Completion, cell: Posed) -> Mapping[str, object] | None:
    """Values of `EVALUATED` of the choice among the labels; None where the first tokens do not show it."""
    found = label_logprobs(said.first, task.label_texts) if task.label_texts else None
    if found is None:
        return None
    shown = dict(zip(task.label_texts, normalized(found), strict=True))
    predicted = max(shown, key=shown.__getitem__)
    return {
        "predicted": cell.label(predicted),
        "parsed": True,
        "correct": predicted == cell.example.answer,
        "logprob": shown[cell.example.answer],
        "label_logprobs": [shown[cell.shown.get(label, label)] for label in task.label_texts],
        "label_mass": min(sum(math.exp(logprob) for logprob in found), 1.0),
    }


def _outcome(
    task: Task, key: ModelKey, asked: tuple[PromptTemplate, Example], said: Completion, cell: Posed
) -> Mapping[str, object]:
    """A row of `EVALUATED`."""
    (template, example), grader = asked, task.grader
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
