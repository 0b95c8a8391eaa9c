"""What decides a model's answers, for cache keys: hashes of complete files, so that other models differ."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from paft_ray.errors import UserError
from paft_ray.models.digests import file_digest
from paft_ray.models.files import loader_files, weight_files


def model_identity(model_id: str, revision: str | None, path: str) -> dict[str, Any]:
    """Id and revision of a model with the SHA-256 of every file in its folder `path` that a loader reads: weights,
    tokenizer, configuration, chat templates.

    Digests of weights are cached on this machine. Raises `UserError` for a file that cannot be read.
    """
    folder = Path(path)
    try:
        files = {str(file.relative_to(folder)): _digest(file) for file in loader_files(folder)}
        files |= {file.name: file_digest(file) for file in weight_files(folder)}
    except OSError as error:
        raise UserError(
            f"model {path}: {error.filename} cannot be read ({error.strerror}); give this user the right to it"
        ) from None
    return {"id": model_id, "revision": revision, "files": files}


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
