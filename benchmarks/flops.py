"""Floating-point operations: what a LoRA training step needs at least, and what the machine does in matrix products,
printed by `python -m benchmarks.flops` (a process of its own: none of its memory is left to who measures).
Architectures whose layers are `nn.Linear`."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from paft_ray.config import fast_precision
from paft_ray.training.collate import length
from paft_ray.training.example_builder import Row
from paft_ray.training.model import DTYPES

_SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192, 12288)}


def weights(model_path: str) -> tuple[int, int]:
    """Weights of the linear layers within the decoder, and of its output head."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_path))
    head = model.get_output_embeddings()
    layers = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    return layers, head.weight.numel()


def needed(layers: int, head: int, rows: Sequence[Row]) -> float:
    """Operations of one pass forward and one backward to the inputs, adapters and attention's own products left out: 4
    per token and weight of a layer, and of the head at positions that predict an answer token."""
    return 4.0 * (layers * sum(map(length, rows)) + head * sum(len(row["answer_ids"]) for row in rows))


def peak(device: torch.device) -> float:
    """Operations per second in bf16, or fp32 on a CPU without it: the best of three sizes of square products on random
    data."""
    dtype = DTYPES[fast_precision(device.type == "cuda")]
    found = 0.0
    for size in _SIZES[device.type]:
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        for repeats in (2, 10):  # the first round warms up
            _wait(device)
            begin = time.perf_counter()
            for _ in range(repeats):
                a @ b
            _wait(device)
            seconds = (time.perf_counter() - begin) / repeats
        found = max(found, 2.0 * size**3 / seconds)
    return found


def main() -> None:
    print(peak(torch.device("cuda" if torch.cuda.is_available() else "cpu")))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
