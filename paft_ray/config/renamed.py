"""Keys of the configuration that have another name now: old key -> key to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED = {
    "engine.silence_s": "engine.stall_timeout_s",
    "evaluate.speed_rows": "evaluate.latency_sample_rows",
    "model.cut_field": "model.truncate_field",
    "prompts.few_shot": "prompts.num_few_shot",
    "prompts.max_attempts": "prompts.max_rounds",
    "prompts.share_examples": "prompts.num_shared_examples",
    "sweep.space.draw": "sweep.space.sampling",
    "sweep.space.k": "sweep.space.sampling",
    "sweep.validation_templates": "sweep.num_validation_templates",
    "train.draw": "train.sampling.type",
    "train.k": "train.sampling.k",
}


def renamed_keys(values: Mapping[str, Any]) -> list[str]:
    """One clause for each old key that stands in the values of a configuration."""
    return [f"{old}: was renamed; write {new}" for old, new in RENAMED.items() if _holds(values, old.split("."))]


def _holds(values: Any, path: list[str]) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True
