"""Weights for an engine: what decides its answers, and where they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import mean
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class ModelWeights:
    """A model of the architecture with which an engine starts."""

    key: Mapping[str, Any]
    """What decides its answers."""
    materialize: Callable[[], AbstractContextManager[str]] | None = None
    """Gives, on the node of the engine, the folder of the weights, which exists while the block runs; None: the weights
    that the engine starts with."""
    adapter_rank: int = 0
    """Above 0: the folder holds a LoRA adapter of this rank, which the engine serves upon the weights that it starts
    with."""

    @property
    def id(self) -> str:
        """16 hex digits from the key."""
        return hashlib.sha256(json.dumps(self.key, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(kw_only=True)
class ModelCost:
    """What an engine has spent on one model."""

    load_s: float = 0.0
    """Seconds until it could answer for it: of merging and loading, or of fetching its adapter."""
    answer_s: float = 0.0
    """Seconds in which it answered for it."""

    @classmethod
    def of_replicas(cls, costs: Sequence[ModelCost]) -> Self:
        """Wall time of engines side by side, each of which has loaded the model and answers its share."""
        return cls(load_s=mean(cost.load_s for cost in costs), answer_s=mean(cost.answer_s for cost in costs))
