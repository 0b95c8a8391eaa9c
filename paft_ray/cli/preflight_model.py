"""Checks of a model before anything starts: whether it goes with the task, the templates and the settings."""

from __future__ import annotations

from itertools import chain

from paft_ray.compat.lazy_imports import without
from paft_ray.config import Config
from paft_ray.errors import UserError, one_line
from paft_ray.inference.grid import check_labels, longest_answer
from paft_ray.models.encoder import make_encoder
from paft_ray.models.files import Shapes, embedding_rows, most_tokens, quantization, shapes
from paft_ray.models.resolve import tokenizer_errors
from paft_ray.prompts.encode import Encoder
from paft_ray.stages.user_templates import Templates
from paft_ray.tasks.task import Task


def check_model(config: Config, task: Task, path: str, templates: Templates, *, trains: bool) -> Encoder:
    """The encoder of the model folder `path`. `templates`: those of the configuration; `trains`: whether the model will
    be trained.

    Raises `UserError` where its configuration, dtype, tokenizer or chat template cannot be used, or where
    templates, prompt length or adapter targets do not go with it.
    """
    weights = shapes(path)
    _check_config(path)
    if trains and (kind := quantization(path)):
        raise UserError(
            f"model {path}: its weights are quantized ({kind}), which is not supported yet for training; give "
            "the folder in bf16, fp16 or fp32"
        )
    encoder = make_encoder(task, config.model, path)
    with tokenizer_errors(path):
        _check_ids(encoder, path, weights)
        check_labels(encoder)
        for template in chain(*templates):
            encoder.check(template)
    most, answer = most_tokens(path), longest_answer(encoder, config.evaluate.max_answer_tokens)
    if most is not None and config.model.max_prompt_tokens + answer > most:
        raise UserError(
            f"model.max_prompt_tokens={config.model.max_prompt_tokens}: the model reads {most} tokens with the answer, "
            f"which takes up to {answer}; allowed: up to {most - answer}"
        )
    lora = config.train.lora
    if lora is not None and lora.target_modules != "all-linear":
        linear = {
            name.split(".")[-2]
            for name, shape in weights.items()
            if name.endswith(".weight") and len(shape) == 2 and "." in name
        }
        if unknown := sorted(set(lora.target_modules) - linear):
            raise UserError(
                f"train.lora.target_modules: {', '.join(unknown)} are not in the model; it has: "
                f"{', '.join(sorted(linear))}"
            )
    return encoder


def _check_config(path: str) -> None:
    """Raises `UserError` for a config.json that transformers does not take; code shipped with a model is never run."""
    try:
        with without("sklearn"):  # the model's own module is imported when its configuration is read
            from transformers import AutoConfig

            AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # it raises whatever it meets
        raise UserError(
            f"model {path}: config.json is none that transformers takes ({one_line(error)[:200]}); fix it, or "
            "choose another model"
        ) from None


def _check_ids(encoder: Encoder, path: str, weights: Shapes) -> None:
    """Raises `UserError` where a token that prompts or answers can hold has no embedding; a larger embedding is
    usual."""
    rows = embedding_rows(path, weights)
    token, largest = encoder.largest_id()
    if rows is not None and largest >= rows:
        raise UserError(
            f"model {path}: token {one_line(token)[:40]!r} has id {largest}, but the model's embedding has "
            f"{rows} rows (ids below {rows}); give the tokenizer that the model was trained with, or resize the "
            "embedding"
        )
