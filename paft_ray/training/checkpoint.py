"""Canonical checkpoints: trainable fp32 weights and AdamW moments by parameter name, free of world size and ZeRO stage.

Layout under a storage folder: `step-000050/state.safetensors`, `step-000050/manifest.json`. The manifest is written last and holds the file's
SHA-256, so a torn checkpoint is passed over. No pickle. Rank 0 holds the whole state while saving: 12 bytes per trained parameter.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs
import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from safetensors.torch import load, save

from paft_ray.artifacts import Run, versions

_MOMENTS = ("exp_avg", "exp_avg_sq")
_STATE, _MANIFEST = "state.safetensors", "manifest.json"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Everything that the next step depends on, besides data, configuration and seed (draws, order and dropout are functions of keys)."""

    step: int
    """Optimizer steps done."""
    tensors: dict[str, torch.Tensor]
    """`weight/NAME`, `exp_avg/NAME`, `exp_avg_sq/NAME`, fp32 on the CPU."""


def trainable(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Trained parameters by name, in module order."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def collect_weights(engine: Any, *, keep: bool) -> dict[str, torch.Tensor]:
    """Whole fp32 weights of the trained parameters, by name, on the CPU. Collective: every rank calls it; ranks with keep=False get {}."""
    weights = {}
    for name, parameter in trainable(engine.module).items():
        full = parameter.data if engine.zero_optimization_stage() == 0 else safe_get_full_fp32_param(parameter)
        if keep:
            weights[name] = full.detach().float().cpu().clone()
    return weights


def collect(engine: Any, step: int, *, keep: bool) -> TrainingState | None:
    """The state of an engine after `step` optimizer steps. Collective; ranks with keep=False get None."""
    tensors = {f"weight/{name}": weight for name, weight in collect_weights(engine, keep=keep).items()}
    for name, parameter in trainable(engine.module).items():
        for moment in _MOMENTS:
            full = _moment(engine, parameter, moment)
            if keep:
                tensors[f"{moment}/{name}"] = full.detach().float().cpu().clone()
    return TrainingState(step=step, tensors=tensors) if keep else None


def _moment(engine: Any, parameter: torch.nn.Parameter, moment: str) -> torch.Tensor:
    if engine.zero_optimization_stage() == 0:
        return engine.optimizer.state[parameter][moment]
    return safe_get_full_optimizer_state(parameter, moment)


def load_weights(module: torch.nn.Module, state: TrainingState) -> None:
    """Copies the weights of a state into a module that no engine has partitioned yet."""
    with torch.no_grad():
        for name, parameter in trainable(module).items():
            parameter.copy_(state.tensors[f"weight/{name}"])


def restore_optimizer(engine: Any, state: TrainingState) -> None:
    """Puts weights, moments and step count into an engine whose optimizer state exists (after one step). Collective."""
    stage = engine.zero_optimization_stage()
    for name, parameter in trainable(engine.module).items():
        if stage:
            safe_set_full_fp32_param(parameter, state.tensors[f"weight/{name}"].to(engine.device))
        for moment in _MOMENTS:
            value = state.tensors[f"{moment}/{name}"].to(engine.device)
            if stage:
                safe_set_full_optimizer_state(parameter, value, moment)
            else:
                engine.optimizer.state[parameter][moment].copy_(value)
    inner = engine.optimizer.optimizer if stage else engine.optimizer
    for slots in inner.state.values():
        if "step" in slots:
            slots["step"] = torch.full_like(torch.as_tensor(slots["step"], dtype=torch.float32), float(state.step))


def write(store: Run, state: TrainingState, meta: dict[str, Any], keep: int) -> None:
    """Writes a checkpoint whole or not at all, then removes all but the newest `keep`."""
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
    return TrainingState(step=step, tensors=load(store.read_bytes(f"{_folder(step)}/{_STATE}")))


def _intact(store: Run, step: int) -> bool:
    try:
        expected = store.read_json(f"{_folder(step)}/{_MANIFEST}")["sha256"]
        return all(hashlib.sha256(store.read_bytes(f"{_folder(step)}/{name}")).hexdigest() == digest for name, digest in expected.items())
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return False


def _folder(step: int) -> str:
    return f"step-{step:06d}"
