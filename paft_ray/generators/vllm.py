"""Generator models in vLLM: requests -> texts, in the order of the requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ray.data

from paft_ray.config import EngineConfig, GeneratorConfig
from paft_ray.generators.quality.question import longest_question
from paft_ray.generators.requests import Completion, Request, request_seed
from paft_ray.inference.answer_cache import AnswerCache
from paft_ray.inference.generate import generate
from paft_ray.inference.model_weights import ModelWeights
from paft_ray.models.reference import ModelFiles
from paft_ray.models.resolve import load_tokenizer
from paft_ray.prompts.tokens import PromptTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_STEP = 128
"""Longest requests are rounded up to a multiple: rounds that differ by some tokens then use one engine. It has room for
the judge's question, too, which it is asked next."""


def write_templates(
    requests: Sequence[Request],
    generator: GeneratorConfig,
    engine: EngineConfig,
    seed: int,
    cache: AnswerCache,
    model: ModelFiles,
) -> tuple[list[Completion], int]:
    """(One answer per request, an empty one where the row failed; engine starts, none where `cache` holds all answers
    or an engine runs already). An instruct model is asked in its own chat template."""
    tokenizer, weights = load_tokenizer(model.path), ModelWeights(key=model.identity)
    tokens, rows = PromptTokens(tokenizer), []
    frame = tokens.frame(["user"])[0] if tokenizer.chat_template else None
    for request in requests:
        text = f"{request.message}\n\n{'JSON' if request.is_list else 'Text'}:"
        ids = tokens.plain(text) if frame is None else tokens.chat(frame, [request.message])
        sampling = {
            "max_tokens": generator.max_tokens,
            "temperature": generator.temperature,
            "top_p": 0.95,
            "seed": request_seed(seed, request.number),
            "detokenize": False,
            "structured_outputs": {"regex": request.regex},
        }
        key = str(request.number)
        rows.append({"weights": weights.id, "key": key, "prompt_ids": ids, "sampling": json.dumps(sampling)})
    longest = max(len(row["prompt_ids"]) for row in rows) + generator.max_tokens
    answered = generate(
        ray.data.from_items(rows),
        name=f"synthesize {generator.id}",
        base=model,
        models=[weights],
        cache=cache.keyed({"first": requests[0].number}),  # so that a round does not count answers of another
        engine=engine,
        max_model_len=max(longest_question(model), -(-longest // _STEP) * _STEP),
        seed=seed,
    )
    found = {int(row["key"]): row["token_ids"] for row in answered.answers.to_pylist()}
    written = [_completion(request, found.get(request.number, []), tokenizer) for request in requests]
    return written, answered.engine_starts


def _completion(request: Request, token_ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> Completion:
    text = str(tokenizer.decode(token_ids, skip_special_tokens=True)).strip()
    return Completion(text=text, finished=request.is_complete(text), tokens=len(token_ids))
