"""A base model of two layers and a LoRA adapter of it, as files: no torch."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save, save_file

HIDDEN, RANK = 8, 2
CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": RANK,
    "lora_alpha": 4,
    "target_modules": ["q_proj", "up_proj"],
}
_WIDTHS = {"self_attn.q_proj": (HIDDEN, HIDDEN), "mlp.up_proj": (3 * HIDDEN, HIDDEN)}
Tensors = dict[str, NDArray[np.generic]]


def modules() -> dict[str, tuple[int, int]]:
    """Module -> shape of its weight."""
    return {f"model.layers.{layer}.{name}": shape for layer in range(2) for name, shape in _WIDTHS.items()}


def write_base(folder: Path) -> Path:
    """A model folder: configuration and weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 2}))
    weights = {f"{name}.weight": np.full(shape, 0.5, np.float32) for name, shape in modules().items()}
    save_file({**weights, "model.norm.weight": np.ones(HIDDEN, np.float32)}, folder / "model.safetensors")
    return folder


def adapter_tensors(seed: int = 0) -> Tensors:
    """Its weights by name."""
    rng = np.random.default_rng(seed)
    found: Tensors = {}
    for name, (outputs, inputs) in modules().items():
        found[f"base_model.model.{name}.lora_A.weight"] = rng.normal(size=(RANK, inputs)).astype(np.float32)
        found[f"base_model.model.{name}.lora_B.weight"] = rng.normal(size=(outputs, RANK)).astype(np.float32)
    return found


def adapter_files(seed: int = 0) -> dict[str, bytes]:
    """Name -> content of an adapter folder."""
    return {
        "adapter_config.json": json.dumps(CONFIG).encode(),
        "adapter_model.safetensors": save(adapter_tensors(seed)),
    }


def weights_files(seed: int = 0) -> dict[str, bytes]:
    """Name -> content of a folder with whole weights."""
    weights = {"model.norm.weight": np.full(HIDDEN, seed + 1, np.float32)}
    return {"config.json": b"{}", "tokenizer_config.json": b"{}", "model.safetensors": save(weights)}


def write_weights(folder: Path) -> Path:
    """A folder with whole weights."""
    folder.mkdir(parents=True)
    for name, content in weights_files().items():
        (folder / name).write_bytes(content)
    return folder


def write_adapter(folder: Path, tensors: Tensors | None = None, **config: object) -> Path:
    """An adapter folder as stage train writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    save_file(adapter_tensors() if tensors is None else tensors, folder / "adapter_model.safetensors")
    return folder
