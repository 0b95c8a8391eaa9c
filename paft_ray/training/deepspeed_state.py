"""The state of a DeepSpeed engine as complete tensors by name, at any ZeRO stage, and back."""

from __future__ import annotations

from typing import Any

import torch
from deepspeed import zero
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)

from paft_ray.compat.deepspeed import set_step_count
from paft_ray.training.checkpoint import TrainingState

_MOMENTS = ("exp_avg", "exp_avg_sq")


def trainable(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Trained parameters by name, in module order."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def collect_weights(engine: Any, *, keep: bool) -> dict[str, torch.Tensor]:
    """Complete fp32 weights of the trained parameters, by name, on the CPU. Collective: every rank calls it; ranks with
    keep=False get {}."""
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
    """Copies the weights of a state into a module that no engine has yet. Collective where its weights are in parts."""
    for name, parameter in trainable(module).items():
        with torch.no_grad(), zero.GatheredParameters([parameter], modifier_rank=0):
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
    set_step_count(engine, state.step)
