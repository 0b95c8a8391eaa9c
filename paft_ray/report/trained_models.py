"""What is needed to use the trained models of a run."""

from __future__ import annotations

from paft_ray.config import Config
from paft_ray.storage.manifests import TrainedModel


def longest_request(config: Config, model: TrainedModel) -> int:
    """Most tokens of a prompt with its answer."""
    return int(
        model.settings["model"]["max_prompt_tokens"]
        + max(model.settings["task"]["max_answer_tokens"], config.evaluate.max_answer_tokens)
    )
