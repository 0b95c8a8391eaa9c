"""Generator models in vLLM: requests -> texts, in the order of the requests."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import ray.data

from paft_ray.config import EngineConfig, GeneratorConfig
from paft_ray.generators.requests import Completion, Request, request_seed
from paft_ray.inference.answer_cache import AnswerCache
from paft_ray.inference.generate import generate
from paft_ray.inference.model_weights import ModelWeights
from paft_ray.models.reference import ModelFiles
from paft_ray.models.resolve import load_tokenizer
from paft_ray.prompts.tokens import PromptTokens


def write_templates(
    requests: Sequence[Request],
    generator: GeneratorConfig,
    engine: EngineConfig,
    seed: int,
    cache: AnswerCache,
    model: ModelFiles,
) -> tuple[list[Completion], int]:
    """(One answer per request, an empty one where the row failed; engine starts, none where `cache` holds all answers
    or an engine runs already)."""
    tokenizer, weights = load_tokenizer(model.path), ModelWeights(key=model.identity)
    tokens, rows = PromptTokens(tokenizer), []
    for number, request in enumerate(requests):
        text = f"{request.message}\n\nText:"
        ids = (
            tokens.chat(tokens.frame(["user"])[0], [request.message]) if tokenizer.chat_template else tokens.plain(text)
        )
        sampling = {
            "max_tokens": generator.max_tokens,
            "temperature": generator.temperature,
            "top_p": 0.95,
            "seed": request_seed(seed, number),
            "detokenize": False,
            "structured_outputs": {"regex": request.regex},
        }
        rows.append({"weights": weights.id, "key": str(number), "prompt_ids": ids, "sampling": json.dumps(sampling)})
    longest = max(len(row["prompt_ids"]) for row in rows) + generator.max_tokens
    answered = generate(
        ray.data.from_items(rows),
        name=f"synthesize {generator.id}",
        base=model,
        models=[weights],
        cache=cache,
        engine=engine,
        max_model_len=longest,
        seed=seed,
    )
    texts = {
        int(row["key"]): str(tokenizer.decode(row["token_ids"], skip_special_tokens=True)).strip()
        for row in answered.answers.to_pylist()
    }
    written = [
        Completion(text=text, finished=re.fullmatch(request.regex, text) is not None)
        for number, request in enumerate(requests)
        for text in [texts.get(number, "")]
    ]
    return written, answered.engine_starts
