"""What the check trains: cases, each a process of its own, and the sizes of their models by device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from paft_ray.config import TrainConfig

Device = Literal["cuda", "cpu"]
Kind = Literal["models", "reference", "equality", "speed", "peak"]
TOLERANCE = {"fp32": 1e-4, "bf16": 1e-2, "fp16": 1e-2}
"""Largest relative difference of a loss, by number format; fp32 with TF32 off."""

SMALL = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256,
}  # fmt: skip
_CPU = {**SMALL, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "vocab_size": 1024}
_QUARTER_G = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 12, "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 32000,
}  # fmt: skip
_ONE_G = {**_QUARTER_G, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32}
_ONE_G_FROM_GIB = 60

_COMMON = {"num_epochs": None, "warmup_fraction": 0.2}
_EQUALITY = {
    **_COMMON, "global_batch": 8, "micro_batch": 4, "num_steps": 6, "checkpoint_every": 3, "precision": "fp32", "weight_decay": 0.1,
    "learning_rate": 1e-2, "zero_stage": 0,
}  # fmt: skip
_ALL = {"lora": None, "learning_rate": 1e-3}
EQUALITY: dict[str, dict[str, Any]] = {
    "lora": {},
    "lora-zero2": {"zero_stage": 2},
    "lora-zero3": {"zero_stage": 3},
    "all": _ALL,
    "all-zero2": {**_ALL, "zero_stage": 2},
    "all-zero3": {**_ALL, "zero_stage": 3},
    "lora-bf16": {"zero_stage": 2, "precision": "bf16"},
    "all-bf16": {**_ALL, "zero_stage": 2, "precision": "bf16"},
    "lora-checkpointing": {"zero_stage": 2, "gradient_checkpointing": True},
    "all-zero3-checkpointing": {**_ALL, "zero_stage": 3, "gradient_checkpointing": True},
    "lora-compile": {"zero_stage": 2, "compile": True},
}
EQUALITY_GPU: dict[str, dict[str, Any]] = {
    "lora-fp16": {"precision": "fp16"},
    "lora-offload": {"zero_stage": 2, "offload": "optimizer"},
    "all-zero3-offload": {**_ALL, "zero_stage": 3, "offload": "optimizer_and_weights"},
}
"""What needs a GPU: fp16, and memory that is not the device's."""
SPEED: dict[str, dict[str, Any]] = {
    "speed-lora-zero2": {"zero_stage": 2},
    "speed-lora-checkpointing": {"zero_stage": 2, "gradient_checkpointing": True},
    "speed-all-zero3": {"lora": None, "learning_rate": 1e-4, "zero_stage": 3},
    "speed-all-zero2": {"lora": None, "learning_rate": 1e-4, "zero_stage": 2},
    "speed-lora-zero3": {"zero_stage": 3},
    "speed-lora-compile": {"zero_stage": 2, "compile": True},
}
SPEED_GPU: dict[str, dict[str, Any]] = {"speed-lora-zero3-offload": {"zero_stage": 3, "offload": "optimizer_and_weights"}}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One process of the check."""

    name: str
    kind: Kind
    device: Device
    train: dict[str, Any] = field(default_factory=dict)
    """Of a `TrainConfig`; empty where nothing is trained."""
    longest: int = 32
    """Tokens of the longest prompt."""
    limit_s: int = 120

    @property
    def config(self) -> TrainConfig:
        return TrainConfig.model_validate(self.train)


def cases(device: Device) -> list[Case]:
    """All cases of a device, in the order in which they run: what counts most comes before the budget ends."""
    gpu = device == "cuda"
    equality = {name: {**_EQUALITY, **values} for name, values in (EQUALITY | (EQUALITY_GPU if gpu else {})).items()}
    steps = {"global_batch": 32, "micro_batch": 16, "num_steps": 10} if gpu else {"global_batch": 16, "micro_batch": 16, "num_steps": 4}
    speed = {name: {**_COMMON, **steps, "learning_rate": 1e-3, **values} for name, values in (SPEED | (SPEED_GPU if gpu else {})).items()}
    return [
        Case(name="models", kind="models", device=device),
        *(Case(name=f"reference-{kind}", kind="reference", device="cpu", train=equality[kind]) for kind in ("lora", "all")),
        *(Case(name=name, kind="equality", device=device, train=_on(device, train), limit_s=180) for name, train in equality.items()),
        Case(name="peak", kind="peak", device=device, limit_s=60),
        *(
            Case(name=name, kind="speed", device=device, train=_on(device, train), longest=512 if gpu else 256, limit_s=180)
            for name, train in speed.items()
        ),
    ]  # fmt: skip


def large(device: Device, memory_gib: float) -> dict[str, int]:
    """Sizes of the model that is timed."""
    if device == "cpu":
        return _CPU
    return _ONE_G if memory_gib >= _ONE_G_FROM_GIB else _QUARTER_G


def _on(device: Device, train: dict[str, Any]) -> dict[str, Any]:
    return {**train, "gpus_per_worker": int(device == "cuda")}
