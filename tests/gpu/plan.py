"""What the check trains: cases, each a process of its own, and the sizes of their models by device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from paft_ray.config import Precision, TrainConfig

Device = Literal["cuda", "cpu"]
Kind = Literal["models", "reference", "equality", "engine", "adapters", "pipeline", "speed", "peak"]
WITH_ENGINE = ("engine", "adapters", "pipeline")
TOLERANCE = {"fp32": 1e-4, "bf16": 1e-2, "fp16": 5e-2}
"""Largest relative difference of a loss: fp32 with TF32 off; fp16 may skip a step while it finds its scale."""
NATS = {"fp32": 0.02, "bf16": 0.25}
"""Largest difference of a label's log-probability from that of transformers in fp32."""


def _llama(
    *, hidden: int, feed_forward: int, layers: int, heads: int, kv_heads: int, vocabulary: int
) -> dict[str, int]:  # fmt: skip
    return {
        "hidden_size": hidden,
        "intermediate_size": feed_forward,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
    }


SMALL = _llama(hidden=64, feed_forward=128, layers=2, heads=4, kv_heads=2, vocabulary=256)
_CPU = _llama(hidden=256, feed_forward=1024, layers=4, heads=8, kv_heads=4, vocabulary=1024)
_QUARTER_G = _llama(hidden=1024, feed_forward=4096, layers=12, heads=16, kv_heads=8, vocabulary=32000)
_ONE_G = _llama(hidden=2048, feed_forward=8192, layers=16, heads=32, kv_heads=8, vocabulary=32000)
_ONE_G_FROM_GIB = 60

_COMMON = {"num_epochs": None, "warmup_fraction": 0.2}
_EQUALITY = {
    **_COMMON,
    "global_batch": 8,
    "micro_batch": 4,
    "num_steps": 6,
    "checkpoint_every": 3,
    "precision": "fp32",
    "weight_decay": 0.1,
    "learning_rate": 1e-2,
    "zero_stage": 0,
}
_STEPS = {
    "cuda": {"global_batch": 32, "micro_batch": 16, "num_steps": 10},
    "cpu": {"global_batch": 16, "micro_batch": 16, "num_steps": 4},
}
_LONGEST = {"cuda": 512, "cpu": 256}
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
SPEED_GPU: dict[str, dict[str, Any]] = {
    "speed-lora-zero3-offload": {"zero_stage": 3, "offload": "optimizer_and_weights"},
}


ENGINES: tuple[tuple[str, Kind, Precision], ...] = (
    ("engine-fp32", "engine", "fp32"),
    ("adapters-fp32", "adapters", "fp32"),
    ("pipeline", "pipeline", "fp32"),
    ("engine-bf16", "engine", "bf16"),
)
"""Cases with Ray and vLLM; bf16 where the device computes it."""


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
    precision: Precision = "fp32"
    """Of the engine, where there is one."""

    @property
    def config(self) -> TrainConfig:
        return TrainConfig.model_validate(self.train)


def cases(device: Device) -> list[Case]:
    """All cases of a device, in the order in which they run: what counts most comes before the budget ends."""
    gpu = device == "cuda"
    limit_s = 180 if gpu else 400
    equality = {name: {**_EQUALITY, **values} for name, values in (EQUALITY | (EQUALITY_GPU if gpu else {})).items()}
    found = [Case(name="models", kind="models", device=device)]
    for kind in ("lora", "all"):
        found.append(Case(name=f"reference-{kind}", kind="reference", device="cpu", train=equality[kind]))
    for name, values in equality.items():
        found.append(Case(name=name, kind="equality", device=device, train=_on(device, values), limit_s=limit_s))
    for name, kind, precision in ENGINES if gpu else ENGINES[:-1]:
        found.append(Case(name=name, kind=kind, device=device, limit_s=2 * limit_s, precision=precision))
    found.append(Case(name="peak", kind="peak", device=device, limit_s=limit_s))
    for name, values in (SPEED | (SPEED_GPU if gpu else {})).items():
        train = _on(device, {**_COMMON, **_STEPS[device], "learning_rate": 1e-3, **values})
        found.append(
            Case(name=name, kind="speed", device=device, train=train, longest=_LONGEST[device], limit_s=limit_s)
        )
    return found


def large(device: Device, memory_gib: float) -> dict[str, int]:
    """Sizes of the model that is timed."""
    if device == "cpu":
        return _CPU
    return _ONE_G if memory_gib >= _ONE_G_FROM_GIB else _QUARTER_G


def _on(device: Device, train: dict[str, Any]) -> dict[str, Any]:
    return {**train, "gpus_per_worker": int(device == "cuda")}
