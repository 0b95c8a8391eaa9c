"""Where the files of a model are: on the driver's machine, and on each node that computes with it."""

from __future__ import annotations

import fcntl
import hashlib
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from paft_ray.errors import UserError
from paft_ray.models.digests import cache_folder
from paft_ray.models.identity import model_identity
from paft_ray.models.reference import ModelFiles, ModelReference
from paft_ray.models.resolve import resolve_model


def find_model(model_id: str, revision: str | None, *, place: str | None = None) -> ModelFiles:
    """The files of a model, downloaded where they are not on this machine yet; `place`: the absolute path
    where the id is a relative one. Raises `UserError` as `resolve_model`."""
    path = resolve_model(place or model_id, revision)
    identity = model_identity(model_id, revision, path)
    return ModelFiles(reference=ModelReference(id=model_id, revision=revision, identity=identity), path=path)


def find_on_this_node(model: ModelFiles) -> ModelFiles:
    """The files of a model on the machine of this process: in the driver's folder where that is here too, else found or
    downloaded, by one process of the machine at a time. Raises `UserError` where there are none, or others than the
    driver's."""
    reference = model.reference
    with _alone_on_this_machine(f"{reference.id}@{reference.revision}"):
        try:
            path = model.path if Path(model.path).is_dir() else resolve_model(reference.id, reference.revision)
        except UserError as error:
            raise UserError(f"node {socket.gethostname()}: {error}") from None
        if model_identity(reference.id, reference.revision, path) != reference.identity:
            raise UserError(
                f"node {socket.gethostname()}: model {reference.id} in {path} has other files than the driver's "
                f"{model.path}; put the same ones on every node"
            )
    return replace(model, path=path)


@contextmanager
def _alone_on_this_machine(name: str) -> Iterator[None]:
    """Lets one process of this machine at a time into the block; all of them where the cache cannot be written."""
    with ExitStack() as stack:
        with suppress(OSError):
            folder = cache_folder() / "locks"
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((folder / hashlib.sha256(name.encode()).hexdigest()).open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
