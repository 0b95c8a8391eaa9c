"""Finished weights: a PEFT adapter, a model folder, or an adapter merged into its base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from paft_ray.errors import StageError
from paft_ray.models.resolve import load_tokenizer
from paft_ray.storage.store import Store
from paft_ray.training import adapter_config, checkpoint
from paft_ray.training.best_step import best_step
from paft_ray.training.deepspeed_state import collect_weights
from paft_ray.training.job import TrainingJob, Worker
from paft_ray.training.model import DTYPES
from paft_ray.training.step_metrics import read_metrics
from paft_ray.training.trained_weights import ADAPTER_FILE


def final_weights(engine: Any, job: TrainingJob, worker: Worker) -> tuple[int, dict[str, torch.Tensor]]:
    """(optimizer step, its trained weights by name, complete fp32 tensors on the CPU) that `train.export` asks for;
    ranks other than 0 get no weights.

    Collective: ZeRO holds the last weights in pieces. Raises `StageError` where the checkpoint of the best ones is
    damaged.
    """
    if job.config.export == "last":
        return job.num_steps, collect_weights(engine, keep=worker.rank == 0)
    if worker.rank:
        return job.num_steps, {}
    step = best_step(read_metrics(Store(job.out)), checkpoint.steps(job.store), job.config.export)
    assert step is not None, "the last step has a checkpoint that was measured"
    tensors = checkpoint.read(job.store, step).tensors
    return step, {
        name.removeprefix("weight/"): tensor for name, tensor in tensors.items() if name.startswith("weight/")
    }


def export_adapter(engine: Any, weights: dict[str, torch.Tensor], folder: Path, *, base_id: str | None = None) -> None:
    """Writes `adapter_config.json` and `adapter_model.safetensors` in PEFT's format and checks them by reading them
    back.

    `weights`: of `final_weights`; the engine gives the configuration. `base_id`: what the adapter names as its base, in
    place of the folder that it was loaded from. Raises `StageError` for an empty or zero adapter.
    """
    if base_id is not None:  # the adapter moves, the folder does not
        for adapter in engine.module.peft_config.values():
            adapter.base_model_name_or_path = base_id
    engine.module.save_pretrained(str(folder), state_dict=weights, safe_serialization=True, save_embedding_layers=False)
    # PEFT's card is an empty form that names a folder of this machine; stage report writes a real one.
    (folder / "README.md").unlink(missing_ok=True)
    check_adapter(folder, num_tensors=len(weights))


def check_adapter(folder: Path, num_tensors: int) -> None:
    """Raises `StageError` unless the adapter has this many tensors, none of them empty, zero or not finite, and a
    readable configuration."""
    PeftConfig.from_pretrained(str(folder))
    tensors = load_file(folder / ADAPTER_FILE)
    bad = sorted(
        name for name, t in tensors.items() if t.numel() == 0 or not torch.isfinite(t).all() or not t.norm() > 0
    )
    if len(tensors) != num_tensors or bad:
        raise StageError(
            f"adapter {folder}: {len(tensors)} tensors where {num_tensors} were trained; empty, zero or not "
            f"finite: {bad[:3]}"
        )


def export_weights(weights: dict[str, torch.Tensor], folder: Path, model_path: str, *, precision: str) -> None:
    """Writes a model folder (weights in the precision of training, configuration, tokenizer) after full fine-tuning."""
    bad = sorted(name for name, t in weights.items() if t.numel() == 0 or not torch.isfinite(t).all())
    if bad:
        raise StageError(f"weights {folder}: empty or not finite: {bad[:3]}")
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, trust_remote_code=False)
    model.load_state_dict(weights, strict=False)
    _save(model, model_path, folder, DTYPES[precision])


def merge_adapter(model_path: str, adapter_dir: str, out_dir: str, *, precision: str = "bf16") -> None:
    """Writes the base model with the adapter added into its weights (sum in fp32, stored in `precision`: bf16, fp16 or
    fp32) and the tokenizer, for vLLM.

    Raises `UserError` for an adapter that is not plain LoRA.
    """
    adapter_config.check_adapter_config((Path(adapter_dir) / adapter_config.FILE).read_bytes(), adapter_dir)
    base = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, trust_remote_code=False)
    _save(PeftModel.from_pretrained(base, adapter_dir).merge_and_unload(), model_path, Path(out_dir), DTYPES[precision])


def _save(model: Any, model_path: str, folder: Path, dtype: torch.dtype) -> None:
    model.to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(str(folder))
    load_tokenizer(model_path).save_pretrained(str(folder))
