"""What a review takes of engines and endpoints."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from paft_ray.config import GeneratorConfig


@dataclass(kw_only=True)
class Spending:
    """Kept while a review asks its models."""

    engine_starts: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    """Label of a model -> tokens that it generated."""

    def left(self, model: GeneratorConfig) -> GeneratorConfig:
        """The model with what is left of its token limit."""
        return model.after(self.tokens[model.label])
