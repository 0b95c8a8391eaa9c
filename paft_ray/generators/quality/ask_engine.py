"""The judge as a model in the cluster: its log-probabilities of the letters, through the evaluator that also scores and
evaluates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paft_ray.config import EngineConfig, ModelConfig
from paft_ray.errors import UserError
from paft_ray.generators.quality.question import Question, longest_question
from paft_ray.inference.answer_cache import AnswerCache
from paft_ray.inference.evaluator import evaluate
from paft_ray.inference.model_weights import ModelWeights
from paft_ray.models.encoder import make_encoder
from paft_ray.models.reference import ModelFiles
from paft_ray.prompts.template import PromptTemplate

_ANSWER_TOKENS = 8
"""Room for a letter in any way to write it."""


def ask_engine(
    question: Question,
    templates: Sequence[PromptTemplate],
    *,
    model: ModelFiles,
    engine: EngineConfig,
    cache: AnswerCache,
) -> tuple[Mapping[str, list[list[float]]], int]:
    """(Content id -> [order][letter] log-probabilities, normalized over the letters; a template whose rows failed is
    absent; engine starts, none where an engine of this model runs already). Raises as `evaluate`."""
    settings, asked = _as_asked(question, model), [question.example(template) for template in templates]
    (result,), spent = evaluate(
        name="synthesize judge",
        task=question.task,
        templates=question.templates,
        examples=asked,
        model=settings,
        base=model,
        models=[ModelWeights(key={"judge": dict(model.identity), "chat": settings.chat})],
        cache=cache.keyed({"judged": [example.id for example in asked]}),  # rows are known by their place in the list
        engine=engine,
    )
    found: dict[str, dict[str, list[float]]] = {}
    for row in result.outcomes.select(["template_id", "example_id", "label_logprobs"]).to_pylist():
        found.setdefault(row["example_id"], {})[row["template_id"]] = row["label_logprobs"]
    orders = [template.id for template in question.templates]
    complete = {
        name: [answers[order] for order in orders] for name, answers in found.items() if len(answers) == len(orders)
    }
    return complete, spent.engine_starts


def _as_asked(question: Question, model: ModelFiles) -> ModelConfig:
    """Chat input where the model has a chat template that takes a user's message and leaves no thinking open."""
    settings = ModelConfig(
        id=model.path, chat=True, max_prompt_tokens=longest_question(model) - _ANSWER_TOKENS, truncate_field="text"
    )
    try:
        make_encoder(question.task, settings, model.path).check(question.templates[0])
    except UserError:
        return settings.model_copy(update={"chat": False})
    return settings
