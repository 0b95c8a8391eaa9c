"""Canonical checkpoints: trainable fp32 weights and AdamW moments by parameter name, free of world size and ZeRO stage.

Layout under a storage folder: `step-000050/state.safetensors`, `step-000050/manifest.json`. The manifest is written
last and holds the file's SHA-256; it is removed first. So a checkpoint whose writing or removal was interrupted has
none, and one that was damaged later disagrees with it: both are skipped. No pickle. Rank 0 holds the full state while
saving, every rank while it resumes: 12 bytes per trained parameter, once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pyarrow.fs as pafs

from paft_ray.errors import StageError, UserError, one_line
from paft_ray.log import get_logger
from paft_ray.storage.store import Store
from paft_ray.storage.versions import versions

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
_log = get_logger(__name__)
_STATE, _MANIFEST = "state.safetensors", "manifest.json"
_SCHEMA_VERSION = 2
"""Raised with the layout of a checkpoint, or of the metrics that a resumed training continues."""
_CHUNK_BYTES = 2**23
_NAME = re.compile(r"step-(\d{6,})")
_versions = lru_cache(versions)  # they do not change while a process lives


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Everything that the next step depends on, besides data, configuration and seed (draws, order and dropout are
    functions of keys)."""

    step: int
    """Optimizer steps done."""
    tensors: dict[str, torch.Tensor]
    """`weight/NAME`, `exp_avg/NAME`, `exp_avg_sq/NAME`, fp32 on the CPU."""


def write(store: Store, state: TrainingState, meta: dict[str, Any], keep: int, spare: Iterable[int] = ()) -> None:
    """Writes a checkpoint completely or not at all, then removes all before it but the newest `keep` complete ones,
    itself included, and the checkpoints of steps `spare`."""
    from paft_ray.training import state_file  # late: Ray Data's side reads `newest` without torch

    folder, digest = _folder(state.step), hashlib.sha256()
    _remove(store, state.step)
    store.write_chunks(f"{folder}/{_STATE}", _hashed(state_file.pieces(state.tensors), digest))
    manifest = {
        **meta,
        "schema_version": _SCHEMA_VERSION,
        "step": state.step,
        "sha256": {_STATE: digest.hexdigest()},
        "versions": _versions(),
    }
    store.write_json(f"{folder}/{_MANIFEST}", manifest)
    kept = {*[step for step in steps(store) if step <= state.step][-keep:], *spare}
    for step in _folders(store):
        if step < state.step and step not in kept:
            _remove(store, step)


def steps(store: Store) -> list[int]:
    """Steps that have a manifest, ascending."""
    return [step for step in _folders(store) if store.exists(f"{_folder(step)}/{_MANIFEST}")]


def newest(store: Store, announce: Callable[[str], None] = _log.warning) -> int:
    """Step of the newest intact checkpoint, 0 where there is none; each newer checkpoint that is not is announced with
    its fault.

    Raises `UserError` where the storage does not let itself be read: checkpoints that cannot be seen are not damaged.
    """
    found = _folders(store)
    for step in reversed(found):
        found_fault = fault(store, step)
        if found_fault is None:
            return step
        announce(f"skipping {found_fault.kind} checkpoint {store.uri(_folder(step))}: {found_fault.reason}")
    if found:
        announce(f"no intact checkpoint in {store.root}: training starts from step 0")
    return 0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why a checkpoint cannot be used."""

    kind: Literal["incomplete", "damaged", "incompatible"]
    reason: str


def fault(store: Store, step: int) -> Fault | None:
    """Why the checkpoint of a step cannot be used; None where it is intact."""
    try:
        manifest = store.read_json(f"{_folder(step)}/{_MANIFEST}")
    except FileNotFoundError:
        return Fault(kind="incomplete", reason=f"{_MANIFEST} is missing")
    except UserError:
        return Fault(kind="damaged", reason=f"{_MANIFEST} is not JSON")
    except OSError as error:
        raise _unreadable(store, error) from None
    if reason := _wrong_manifest(manifest, step):
        return Fault(kind="damaged", reason=reason)
    if (version := manifest.get("schema_version")) != _SCHEMA_VERSION:
        reason = f"{_MANIFEST} has schema_version {one_line(version)[:20]}, this version reads {_SCHEMA_VERSION}"
        return Fault(kind="incompatible", reason=reason)
    try:
        with store.filesystem.open_input_stream(store.path(f"{_folder(step)}/{_STATE}")) as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return Fault(kind="incomplete", reason=f"{_STATE} is missing")
    except OSError as error:
        raise _unreadable(store, error) from None
    if digest != manifest["sha256"][_STATE]:
        return Fault(kind="damaged", reason=f"{_STATE} does not match its checksum")
    return None


def _wrong_manifest(manifest: Any, step: int) -> str | None:
    """What a manifest lacks to be that of a step's checkpoint."""
    expected = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not isinstance(expected, dict) or not isinstance(expected.get(_STATE), str):
        return f"{_MANIFEST} names no checksum of {_STATE}"
    if manifest.get("step") != step:
        return f"{_MANIFEST} belongs to step {one_line(manifest.get('step'))[:20]}"
    return None


def read(store: Store, step: int) -> TrainingState:
    """The state of a checkpoint that `newest` named. Raises `StageError` where it has been damaged since."""
    from paft_ray.training import state_file

    folder, digest = _folder(step), hashlib.sha256()
    chunks, reason = _hashed(store.chunks(f"{folder}/{_STATE}", _CHUNK_BYTES), digest), ""
    try:
        tensors = state_file.read(chunks)
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        tensors, reason = {}, one_line(error)[:200]
        for _ in chunks:  # the rest, for the digest
            pass
    if digest.hexdigest() != store.read_json(f"{folder}/{_MANIFEST}")["sha256"][_STATE]:
        raise StageError(
            f"checkpoint {store.uri(folder)}: {_STATE} does not match its checksum; start again to resume from the "
            "checkpoint before it"
        )
    if reason:
        raise StageError(f"checkpoint {store.uri(folder)}: {_STATE} holds no state of a training ({reason}); delete it")
    return TrainingState(step=step, tensors=tensors)


def _hashed(chunks: Iterable[T], digest: Any) -> Iterator[T]:
    """The chunks, each added to the digest on its way."""
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def discard_after(store: Store, step: int) -> None:
    """Removes what is beyond the checkpoint that training resumes from: damaged, or never completely written."""
    for later in _folders(store):
        if later > step:
            _remove(store, later)


def _folders(store: Store) -> list[int]:
    """Steps that have a folder, complete or not, ascending; anything else in the store is left alone."""
    try:
        found = store.entries()
    except OSError as error:
        raise _unreadable(store, error) from None
    matches = [_NAME.fullmatch(info.base_name) for info in found if info.type == pafs.FileType.Directory]
    return sorted(step for match in matches if match and match[0] == _folder(step := int(match[1])))


def _remove(store: Store, step: int) -> None:
    """Of a folder the store deletes the manifest first: what an interrupted removal leaves is no checkpoint."""
    store.delete(_folder(step))


def _unreadable(store: Store, error: OSError) -> UserError:
    return UserError(
        f"storage {store.root}: cannot be read ({one_line(error.__cause__ or error)}); check the URI and the "
        "credentials in the environment"
    )


def _folder(step: int) -> str:
    return f"step-{step:06d}"
