"""Checks of the trained models of a run, and what is needed to use them. A run may be someone else's."""

from __future__ import annotations

from collections.abc import Sequence

from paft_ray.config import Config
from paft_ray.storage.artifacts import check_trained
from paft_ray.storage.manifests import TrainedModel
from paft_ray.storage.store import LARGEST_JSON, Store
from paft_ray.training import adapter_config


def check_weights(run: Store, models: Sequence[TrainedModel]) -> None:
    """Raises `UserError` for links among the weights, for files that are missing or not what was trained, and for an
    adapter whose configuration says more than stage train writes."""
    for model in models:
        run.check_plain(model.path)
        check_trained(run, model.path, model.files)
        if model.is_adapter:
            path = f"{model.path}/{adapter_config.FILE}"
            adapter_config.check_adapter_config(run.read_bytes(path, largest=LARGEST_JSON), run.uri(path))


def longest_request(config: Config, model: TrainedModel) -> int:
    """Most tokens of a prompt with its answer."""
    return int(
        model.settings["model"]["max_prompt_tokens"]
        + max(model.settings["task"]["max_answer_tokens"], config.evaluate.max_answer_tokens)
    )
