"""A model as a run knows it: what it is, and where its files were found. Loads no library that computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelReference:
    """A model by name, the same on every node."""

    id: str
    """Hugging Face id, local folder, or `demo`."""
    revision: str | None
    identity: Mapping[str, Any]
    """What decides the model's answers (`model_identity`)."""


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model whose files were found on this machine."""

    reference: ModelReference
    path: str
    """Absolute path of its folder on this machine."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the model's answers."""
        return self.reference.identity
