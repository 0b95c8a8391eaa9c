"""The encoder of a model and a task: the one place that makes it, for preflight, training and evaluation."""

from __future__ import annotations

from paft_ray.config import ModelConfig
from paft_ray.models.resolve import load_tokenizer, tokenizer_errors
from paft_ray.prompts.encode import Encoder
from paft_ray.tasks.task import Task


def make_encoder(task: Task, model: ModelConfig, path: str) -> Encoder:
    """The encoder of section `model` with the tokenizer in the model folder `path`. Raises `UserError` where the folder
    has no tokenizer that can be read, and as `Encoder` does."""
    tokenizer = load_tokenizer(path)
    with tokenizer_errors(path):
        return Encoder.of(task, tokenizer, model)
