"""What a run needs, from shapes and settings: memory, tokens, time, storage. Plain arithmetic, for `--dry-run` and
docs/capacity.md.

Bytes per weight follow what DeepSpeed 0.19 keeps for weights that train in fp32 (its ZeRO sources; stages after
Rajbhandari et al. 2020, arXiv 1910.02054, table 1, which counts 16-bit weights). Activations are those that autograd
saves, counted for models of the Llama family.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paft_ray.config import EngineConfig, TrainConfig
from paft_ray.training.deepspeed_config import zero_optimization

Shapes = Mapping[str, Sequence[int]]
GIB = 2**30
BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
PROCESS_GIB = 0.66
"""Resident memory of a worker process with Ray, torch, DeepSpeed, PEFT and transformers imported, measured; on an
accelerator it is on the host."""
OUTCOME_BYTES = 25
"""One row of evaluate/outcomes.parquet, measured on a task of two labels."""
_LIVE_WEIGHTS = 1_000_000_000  # DeepSpeed's default of stage3_max_live_parameters
_STATE_BYTES = 12  # a checkpoint: fp32 weight and two moments


@dataclass(frozen=True, kw_only=True)
class WorkerMemory:
    """GiB of one training worker. On a CPU worker all of it, and `PROCESS_GIB`, is the memory of one process."""

    weights: float
    """Frozen and trained weights held; with ZeRO-3 this worker's shard and the weights gathered for the layers at
    work."""
    optimizer: float
    """Gradients, fp32 master copy, moments and the bucket in which gradients travel."""
    activations: float
    """Saved for the backward pass of one micro-batch, at `tokens_per_row`; grows with both."""
    offloaded: float
    """What offload keeps in CPU memory instead."""
    loading: float
    """CPU memory of every worker while it loads the model: all of it, before anything is moved; with ZeRO-3, which
    takes it apart as it is read, one tensor and, on a CPU worker, its shard; experts are fused in every worker
    first."""
    checkpoint: float
    """CPU memory of rank 0 while it writes a checkpoint."""

    @property
    def device(self) -> float:
        """GiB on the device that computes."""
        return self.weights + self.optimizer + self.activations


def num_weights(shapes: Shapes) -> int:
    """Number of weights of a model."""
    return sum(math.prod(shape) for shape in shapes.values())


def trained_weights(train: TrainConfig, shapes: Shapes) -> int:
    """Number of weights that train: all, or rank x (inputs + outputs) of every adapted linear layer."""
    if train.lora is None:
        return num_weights(shapes)
    targets = train.lora.target_modules
    return sum(
        train.lora.rank * sum(shape)
        for module, shape in _linear(shapes)
        if targets == "all-linear" or module in targets
    )


def worker_memory(train: TrainConfig, shapes: Shapes, *, tokens_per_row: float) -> WorkerMemory:
    """Memory of one of `train.num_workers` workers; `tokens_per_row`: prompt and answer of the longest rows of a
    micro-batch, padding included."""
    total, trained = num_weights(shapes), trained_weights(train, shapes)
    # Frozen weights: all of them on an accelerator, on a CPU those of linear layers.
    half = train.lora is not None and train.precision != "fp32"
    held = BYTES[train.precision] if half and train.gpus_per_worker else 4
    frozen = 0 if train.lora is None else total
    ranks = train.num_workers
    stage = train.zero_stage
    converted = _saved_by_half_linear(shapes) if half and held == 4 and stage < 3 else 0
    weights = frozen * held - converted + trained * 4.0
    zero = zero_optimization(train)
    live = zero.get("stage3_max_live_parameters", _LIVE_WEIGHTS)
    loading: float = total * held
    if stage == 3:
        weights = weights / ranks + min(live, total) * held
        if not any(".experts." in name for name in shapes):
            largest = max((math.prod(shape) for shape in shapes.values()), default=0)
            loading = (largest + (0 if train.gpus_per_worker else total / ranks)) * held
    gradients = trained * 4 / (ranks if stage >= 2 else 1)
    master = trained * 4 / ranks if stage in (1, 2) else 0  # with ZeRO-3 a rank's weights are the master copy
    moments = trained * 8 / (ranks if stage else 1)
    states = gradients + master + moments
    # Untouched pages of a CPU do not count.
    elements = zero["reduce_bucket_size"]
    overlapping = 2 if zero["overlap_comm"] else 1  # one fills while the other travels
    bucket = (elements * overlapping if train.gpus_per_worker else min(elements, trained)) * 4 if stage else 0
    offloaded = 0.0 if train.offload == "none" or not train.gpus_per_worker else states
    if offloaded and train.offload == "optimizer_and_weights":
        kept = min(live, total) * held
        offloaded, weights = offloaded + weights - kept, kept
    return WorkerMemory(
        weights=weights / GIB,
        optimizer=((0 if offloaded else states) + bucket) / GIB,
        activations=_activation_bytes(
            train, shapes, train.micro_batch * tokens_per_row, fp32_weights=trained + (0 if half else frozen)
        )
        / GIB,
        offloaded=offloaded / GIB,
        loading=loading / GIB,
        checkpoint=trained * _STATE_BYTES / GIB,
    )


def activation_elements(shapes: Shapes, *, checkpointing: bool) -> tuple[int, int]:
    """(elements saved per token, elements of one block per token): inputs and outputs of the blocks' linear layers;
    with checkpointing each block's input.

    Autograd saves 6 h + 2 kv + 4 f elements a block of the Llama family (h hidden, kv key-value, f feed-forward width)
    where all linear layers are adapted; their inputs and outputs sum up to 9 h + 2 kv + 3 f, which is within 3 % for
    SmolLM2-135M, Llama-3-8B and Llama-3-70B.
    """
    blocks = {name.split(".layers.")[1].split(".")[0] for name in shapes if ".layers." in name}
    every = sum(sum(shape) for _, shape in _linear(shapes))
    layer = every // max(1, len(blocks))
    hidden = next((shape[1] for name, shape in shapes.items() if "embed" in name and len(shape) == 2), 0)
    return (hidden * (len(blocks) + 1) if checkpointing else every), layer


def engine_gib(engine: EngineConfig, shapes: Shapes) -> float:
    """GiB of the weights in one of an engine's tensor-parallel ranks; the key-value cache comes on top."""
    return num_weights(shapes) * BYTES[engine.precision] / GIB / engine.tensor_parallel


def training_rows(train: TrainConfig, num_train: int | None) -> float | None:
    """Rows that one training reads; None where it depends on a number of rows that is not known."""
    if train.num_steps is not None:
        return train.num_steps * train.global_batch
    if num_train is None or train.num_epochs is None:
        return None
    return num_train * train.num_epochs


def training_storage_bytes(train: TrainConfig, shapes: Shapes, *, num_steps: float | None) -> float:
    """Bytes that one training leaves: checkpoints (fp32 weights and moments), and the adapter in fp32 or the complete
    weights in `train.precision`."""
    trained = trained_weights(train, shapes)
    kept = (
        train.keep_checkpoints
        if num_steps is None
        else min(train.keep_checkpoints, math.ceil(num_steps / train.checkpoint_every))
    )
    kept += train.export != "last"  # the best one
    return kept * trained * _STATE_BYTES + trained * (4 if train.lora is not None else BYTES[train.precision])


def hours(tokens: float, tokens_per_s: float, replicas: int = 1) -> float:
    """Hours that `replicas` engines of `tokens_per_s` each take for `tokens`, starts not counted."""
    return tokens / tokens_per_s / replicas / 3600


def _activation_bytes(train: TrainConfig, shapes: Shapes, tokens: float, *, fp32_weights: float) -> float:
    """Saved elements in the precision of the passes; autocast keeps a 16-bit copy of every fp32 weight that it used (of
    one block with checkpointing)."""
    saved, layer = activation_elements(shapes, checkpointing=train.gradient_checkpointing)
    size = BYTES[train.precision]
    passes = tokens * (saved + (layer if train.gradient_checkpointing else 0)) * size
    return passes + (0 if train.precision == "fp32" or train.gradient_checkpointing else fp32_weights * size)


def _saved_by_half_linear(shapes: Shapes) -> int:
    """Bytes that 16-bit weights of linear layers save; a head that is the embedding's gets a copy of its own. Experts
    in one tensor are no linear layers."""
    layers = sum(
        math.prod(shape)
        for _, shape in _linear({name: shape for name, shape in shapes.items() if ".experts." not in name})
    )
    head = math.prod(shapes.get("lm_head.weight", (0,)))
    tied = (
        0 if head else sum(math.prod(shape) for name, shape in shapes.items() if name.endswith("embed_tokens.weight"))
    )
    return 2 * (layers + head - tied)


def _linear(shapes: Shapes) -> list[tuple[str, Sequence[int]]]:
    """(module name, [outputs, inputs]) of every linear layer of the blocks."""
    return [
        (name.split(".")[-2], shape)
        for name, shape in shapes.items()
        if name.endswith(".weight") and ".layers." in name and len(shape) == 2
    ]
