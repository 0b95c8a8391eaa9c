"""Outputs of stages: the manifest of a stage names each with its SHA-256, and whoever reads one compares.

A manifest is trusted as far as its types and ranges go; the files that it names are never taken at its word. What it
says beyond the known entries is ignored, so that a later version may add some.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paft_ray.errors import UserError, one_line
from paft_ray.storage.store import Store

CARD = "README.md"
"""Next to the weights of a model: stage report writes it later, so it is no output of stage train."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
OutputPath = Annotated[str, Field(pattern=r"^[^/\x00][^\x00]*$", max_length=1024)]
_CHUNK = 2**22


class StageManifest(BaseModel):
    """What the manifest of every finished stage says."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=())

    key: dict[str, Any]
    """What decided the result."""
    time_s: Annotated[float, Field(ge=0)]
    outputs: dict[OutputPath, Digest]
    """Path, relative to the run -> SHA-256."""


AnyManifest = TypeVar("AnyManifest", bound=StageManifest)


def stage_of(folder: str) -> str:
    """The stage that writes a folder of the run."""
    return folder.split("/")[0]


def manifest_path(folder: str) -> str:
    """Path of the manifest of a stage, of one training of stage train, or of one trial of a sweep."""
    return f"{folder}/manifest.json"


def read_manifest(run: Store, folder: str, kind: type[AnyManifest]) -> AnyManifest:
    """The manifest of a finished stage. Raises `UserError` where there is none, or one of other entries, types or
    ranges."""
    return parse_manifest(run, folder, read_raw_manifest(run, folder), kind)


def read_raw_manifest(run: Store, folder: str) -> Any:
    """The manifest of a finished stage as it is, for what stands in it besides its known entries. Raises `UserError`
    where there is none that is JSON."""
    path, stage = manifest_path(folder), stage_of(folder)
    try:
        return run.read_json(path)
    except FileNotFoundError:
        raise UserError(
            f"run {run.root}: {path} is missing, so stage {stage} is not finished; run stage {stage} first"
        ) from None


def parse_manifest(run: Store, folder: str, found: Any, kind: type[AnyManifest]) -> AnyManifest:
    """A manifest, checked. Raises as `read_manifest`."""
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        fault = error.errors()[0]
        at = ".".join(map(str, fault["loc"])) or "it"
        stage = stage_of(folder)
        raise UserError(
            f"run {run.root}: {manifest_path(folder)} is no manifest of stage {stage} "
            f"({one_line(at)[:80]}: {one_line(fault['msg'])[:160]}); delete it and run stage {stage} again"
        ) from None


def digest(data: bytes) -> str:
    """SHA-256, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def local_digests(folder: str | Path) -> dict[str, str]:
    """Path relative to a local folder -> SHA-256, of every file in it but the card, in order of paths."""
    root, found = Path(folder), {}
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        if (name := file.relative_to(root).as_posix()) != CARD:
            with file.open("rb") as stream:
                found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def digests(run: Store, paths: Iterable[str]) -> dict[str, str]:
    """Path -> SHA-256 of files of the run, as they are there now."""
    return {path: file_digest(run, path) for path in paths}


def file_digest(run: Store, path: str) -> str:
    """SHA-256 of a file of the run, however large. Raises `FileNotFoundError` where there is none."""
    found = hashlib.sha256()
    for chunk in run.chunks(path, _CHUNK):
        found.update(chunk)
    return found.hexdigest()


def summed(files: Mapping[str, str]) -> str:
    """SHA-256 over names and digests of files: one value for all that a folder holds."""
    return digest("".join(f"{name}\0{files[name]}\0" for name in sorted(files)).encode())


def damage(run: Store, outputs: Mapping[str, str]) -> tuple[str, str] | None:
    """(path, `is missing` or `is damaged`) of the first output that is not there or not what was written."""
    for path, wanted in outputs.items():
        try:
            if file_digest(run, path) != wanted:
                return path, "is damaged"
        except FileNotFoundError:
            return path, "is missing"
    return None


def read_verified(run: Store, folder: str, path: str, *, largest: int | None = None) -> bytes:
    """An output of the stage with this folder. Every reader of another stage's output goes through here or through
    `fetch_verified`.

    Raises `UserError` naming file, stage and remedy where the stage is not finished, does not name the file, or the
    file is missing or not what the stage wrote.
    """
    wanted = _wanted(run, folder, path)
    try:
        data = run.read_bytes(path, largest=largest)
    except FileNotFoundError:
        raise _bad(run, folder, path, "is missing") from None
    if digest(data) != wanted:
        raise _bad(run, folder, path, f"is damaged: it is not what stage {stage_of(folder)} wrote")
    return data


def verified_digest(run: Store, folder: str, path: str) -> str:
    """SHA-256 of an output, 16 hex digits, for the key of a stage that reads it. Raises as `read_verified`."""
    wanted = _wanted(run, folder, path)
    check_files(run, folder, {path: wanted})
    return wanted[:16]


def _wanted(run: Store, folder: str, path: str) -> str:
    """SHA-256 that the manifest of a stage states of an output. While the manifest is there the stage is finished, so
    one that names no such file is to be deleted, and that of the whole stage with it."""
    wanted = read_manifest(run, folder, StageManifest).outputs.get(path)
    if wanted is None:
        manifests = " and ".join(map(manifest_path, dict.fromkeys((folder, stage_of(folder)))))
        raise UserError(
            f"run {run.root}: {path} is not named by {manifest_path(folder)}; delete {manifests} and run stage "
            f"{stage_of(folder)} again"
        )
    return wanted


def check_files(run: Store, folder: str, files: Mapping[str, str]) -> None:
    """Raises `UserError` as `read_verified` for the first of the files (path -> SHA-256) that is missing or damaged."""
    if fault := damage(run, files):
        path, what = fault
        raise _bad(run, folder, path, what)


def fetch_verified(run: Store, folder: str, files: Mapping[str, str], local: str | Path) -> None:
    """Copies the files below `folder` (path relative to it -> SHA-256) to a local folder, and nothing else that is
    there. Raises `UserError` as `read_verified`."""
    run.check_plain(folder)
    for name, wanted in files.items():
        path, target = f"{folder}/{name}", Path(local, run.inside(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        found = hashlib.sha256()
        try:
            with target.open("wb") as stream:
                for chunk in run.chunks(path, _CHUNK):
                    found.update(chunk)
                    stream.write(chunk)
        except FileNotFoundError:
            raise _bad(run, folder, path, "is missing") from None
        if found.hexdigest() != wanted:
            raise _bad(run, folder, path, f"is damaged: it is not what stage {stage_of(folder)} wrote")


def write_files(run: Store, files: Mapping[str, bytes]) -> dict[str, str]:
    """Path -> SHA-256, after writing each file."""
    for path, data in files.items():
        run.write_bytes(path, data)
    return {path: digest(data) for path, data in files.items()}


def _bad(run: Store, folder: str, path: str, what: str) -> UserError:
    stage = stage_of(folder)
    return UserError(f"run {run.root}: {path} {what}; run stage {stage} again")
