"""Canonical checkpoints: trainable fp32 weights and AdamW moments by parameter name, free of world size and ZeRO stage.

Layout under a storage folder: `step-000050/state.safetensors`, `step-000050/manifest.json`. The manifest is written last and holds the file's
SHA-256, so a torn checkpoint is passed over. No pickle. Rank 0 holds the whole state while saving: 12 bytes per trained parameter.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.fs as pafs

from paft_ray.artifacts import Run, versions

if TYPE_CHECKING:
    import torch

_STATE, _MANIFEST = "state.safetensors", "manifest.json"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Everything that the next step depends on, besides data, configuration and seed (draws, order and dropout are functions of keys)."""

    step: int
    """Optimizer steps done."""
    tensors: dict[str, torch.Tensor]
    """`weight/NAME`, `exp_avg/NAME`, `exp_avg_sq/NAME`, fp32 on the CPU."""


def write(store: Run, state: TrainingState, meta: dict[str, Any], keep: int) -> None:
    """Writes a checkpoint whole or not at all, then removes all but the newest `keep`."""
    from safetensors.torch import save  # late: Ray Data's side reads `newest` without torch

    folder = _folder(state.step)
    data = save(state.tensors)
    store.delete(f"{folder}/{_MANIFEST}")
    store.write_bytes(f"{folder}/{_STATE}", data)
    manifest = {**meta, "step": state.step, "sha256": {_STATE: hashlib.sha256(data).hexdigest()}, "versions": versions()}
    store.write_json(f"{folder}/{_MANIFEST}", manifest)
    for step in steps(store)[:-keep]:
        store.delete(f"{_folder(step)}/{_MANIFEST}")
        store.delete(_folder(step))


def steps(store: Run) -> list[int]:
    """Steps that have a manifest, ascending."""
    found = store.filesystem.get_file_info(pafs.FileSelector(store.path("").rstrip("/"), allow_not_found=True))
    names = [info.base_name for info in found if info.base_name.startswith("step-")]
    return sorted(int(name.removeprefix("step-")) for name in names if store.exists(f"{name}/{_MANIFEST}"))


def newest(store: Run) -> int:
    """Step of the newest checkpoint whose files agree with its checksums; 0 where there is none."""
    return next((step for step in reversed(steps(store)) if _intact(store, step)), 0)


def read(store: Run, step: int) -> TrainingState:
    """The state of a checkpoint that `newest` named."""
    from safetensors.torch import load

    return TrainingState(step=step, tensors=load(store.read_bytes(f"{_folder(step)}/{_STATE}")))


def _intact(store: Run, step: int) -> bool:
    try:
        expected = store.read_json(f"{_folder(step)}/{_MANIFEST}")["sha256"]
        return all(hashlib.sha256(store.read_bytes(f"{_folder(step)}/{name}")).hexdigest() == digest for name, digest in expected.items())
    except (FileNotFoundError, ValueError, KeyError):
        return False


def _folder(step: int) -> str:
    return f"step-{step:06d}"
