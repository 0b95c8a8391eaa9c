"""A model as a run knows it: what it is, and where its files are on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paft_ray.models.identity import model_identity
from paft_ray.models.resolve import resolve_model


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


def find_model(model_id: str, revision: str | None, *, place: str | None = None) -> ModelFiles:
    """The files of a model, downloaded where they are not on this machine yet; `place`: the absolute path
    where the id is a relative one. Raises `UserError` as `resolve_model`."""
    path = resolve_model(place or model_id, revision)
    identity = model_identity(model_id, revision, path)
    return ModelFiles(reference=ModelReference(id=model_id, revision=revision, identity=identity), path=path)
