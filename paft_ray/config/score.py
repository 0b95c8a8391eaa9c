"""Section `score`."""

from __future__ import annotations

from paft_ray.config.base import Positive, Section


class ScoreConfig(Section):
    """Stage `score`: the base model answers validation rows under every training template."""

    enabled: bool = True
    """Needed for arm `top_accuracy` and `select_top`."""
    num_examples: Positive = 50
    """Validation rows per template."""
    select_top: Positive | None = None
    """Keep only the best-scored n training templates for arm `paft` (with `enabled`); default: keep all."""
