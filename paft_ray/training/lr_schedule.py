"""The learning rate of an optimizer step: a pure function."""

from __future__ import annotations

import math

from paft_ray.config import TrainConfig


def learning_rate(step: int, num_steps: int, config: TrainConfig) -> float:
    """Learning rate of step 0 <= step < num_steps: a linear rise over the warm-up, then `schedule`, which ends just
    above 0 (linear, cosine)."""
    warmup = math.ceil(config.warmup_fraction * num_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, num_steps - warmup)
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "linear":
        return config.learning_rate * (1 - progress)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
