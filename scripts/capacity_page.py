"""Writes docs/capacity.md from paft_ray/capacity.py: `python scripts/capacity_page.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paft_ray import capacity
from paft_ray.config import EngineConfig, TrainConfig

TARGET = Path(__file__).resolve().parents[1] / "docs" / "capacity.md"

NUM_TRAIN, NUM_EPOCHS = 1_000_000, 3
NUM_CANDIDATES, NUM_HELD_OUT = 400, 50
TRAINED_ARMS = 2  # top_accuracy and paft, one seed
SCORE_ROWS, TEST_ROWS = 200, 10_000
TOKENS_PER_ROW, LONGEST_ROW = 128, 512
REQUEST_TOKENS, TEMPLATE_TOKENS = 300, 100
RATES = (2_000, 10_000, 50_000)


@dataclass(frozen=True, kw_only=True)
class Llama:
    """The public figures of a model of the Llama family, from its config.json."""

    name: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False
    """Output head and embedding are one."""
    gpus: tuple[int, ...] = ()
    """Workers in the tables."""
    tensor_parallel: int = 1
    """GPUs of one engine in the tables."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every weight."""
        kv = self.hidden // self.heads * self.kv_heads
        h, f = self.hidden, self.feed_forward
        block = {
            **{f"self_attn.{name}_proj": (out, h) for name, out in (("q", h), ("k", kv), ("v", kv), ("o", h))},
            **{f"mlp.{name}_proj": shape for name, shape in (("gate", (f, h)), ("up", (f, h)), ("down", (h, f)))},
            "input_layernorm": (h,),
            "post_attention_layernorm": (h,),
        }
        found: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocabulary, h),
            "model.norm.weight": (h,),
        }
        found |= {f"model.layers.{i}.{name}.weight": shape for i in range(self.layers) for name, shape in block.items()}
        return found if self.tied else {**found, "lm_head.weight": (self.vocabulary, h)}


DEMO = Llama(
    name="SmolLM2-135M", layers=30, hidden=576, feed_forward=1536, heads=9, kv_heads=3, vocabulary=49152, tied=True
)
MODELS = (
    Llama(
        name="Llama-3-8B",
        layers=32,
        hidden=4096,
        feed_forward=14336,
        heads=32,
        kv_heads=8,
        vocabulary=128256,
        gpus=(1, 8),
    ),
    Llama(
        name="Llama-3-70B",
        layers=80,
        hidden=8192,
        feed_forward=28672,
        heads=64,
        kv_heads=8,
        vocabulary=128256,
        gpus=(8, 64),
        tensor_parallel=8,
    ),
)

DEMO_TRAIN = {
    "num_epochs": None,
    "num_steps": 50,
    "global_batch": 8,
    "num_workers": 2,
    "micro_batch": 4,
    "precision": "fp32",
}
DEMO_TOKENS = {"sft": 45, "top_accuracy": 60, "paft": 65}  # a row of the longest micro-batch, from the run's prompt set
MEASURED_GIB = {
    "sft": 1.73,
    "top_accuracy": 1.87,
    "paft": 1.89,
}  # EXPERIMENTS.md, the demo sized for cores without bf16: its train/manifest.json
MEASURED_MB = {"checkpoint": 29.5, "adapter": 9.8}  # the same run: state.safetensors, adapter_model.safetensors
MEASURED_ELEMENTS = {
    False: 301_562,
    True: 17_857,
}  # torch.autograd.graph.saved_tensors_hooks over one forward pass, without and with gradient checkpointing


def page() -> str:
    """The whole page."""
    parts = [
        "# Capacity",
        "",
        "What a run of paper scale needs, by the arithmetic of `paft_ray/capacity.py`; `paft run CONFIG "
        "--dry-run` prints the same for your",
        "configuration where the model is on your machine. Made by `scripts/capacity_page.py`. **None of these "
        "cases was run on a GPU**; what was",
        "checked is at the end.",
        "",
        f"The case: {NUM_TRAIN:,} training examples, {NUM_EPOCHS} epochs, {NUM_CANDIDATES} training templates "
        f"and {NUM_HELD_OUT} held-out ones,",
        f"{TRAINED_ARMS} trained arms and the base, {TOKENS_PER_ROW} tokens a row on average and {LONGEST_ROW} "
        f"in the longest, {SCORE_ROWS} scoring rows,",
        f"{TEST_ROWS:,} test rows. LoRA of rank 8 on all linear layers, bf16 passes,",
        "micro-batch 1, gradient checkpointing.",
        "",
    ]
    for model in MODELS:
        parts += [f"## {model.name}", "", *_memory(model), *_storage(model)]
    return "\n".join([*parts, *_tokens(), *_checked()])


def _memory(model: Llama) -> list[str]:
    shapes = model.shapes()
    weights = capacity.engine_gib(
        EngineConfig(num_gpus=1, precision="bf16", tensor_parallel=model.tensor_parallel), shapes
    )
    trained = capacity.trained_weights(_train(1, 0, lora=True), shapes)
    lines = [
        f"{capacity.num_weights(shapes) / 1e9:.2f} G weights; LoRA trains {trained / 1e6:.1f} M. An engine holds "
        f"{weights:.0f} GiB of weights on each of its",
        f"{model.tensor_parallel} GPU(s), and the key-value cache in what is left.",
        "",
        "GiB of one training worker (weights + optimizer + activations = on the GPU):",
        "",
        "| trains | workers | ZeRO | weights | optimizer | activations | on the GPU | CPU: loading, each worker "
        "| CPU: checkpoint, rank 0 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for lora in (True, False):
        for workers in model.gpus:
            for stage in (0, 1, 2, 3):
                m = capacity.worker_memory(_train(workers, stage, lora=lora), shapes, tokens_per_row=LONGEST_ROW)
                figures = (m.weights, m.optimizer, m.activations, m.device, m.loading, m.checkpoint)
                kind = "LoRA" if lora else "all weights"
                lines.append(
                    f"| {kind} | {workers} | {stage} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |"
                )
    return [*lines, ""]


def _storage(model: Llama) -> list[str]:
    shapes = model.shapes()
    lines = ["Storage of one training (two checkpoints kept): "]
    for lora in (True, False):
        size = capacity.training_storage_bytes(_train(1, 0, lora=lora), shapes, num_steps=None) / capacity.GIB
        lines.append(f"{size:.1f} GiB with {'LoRA' if lora else 'all weights trained'}{', ' if lora else '.'}")
    merged = capacity.num_weights(shapes) * 2 / capacity.GIB
    return [
        "".join(lines),
        f"Evaluation merges one arm at a time into {merged:.0f} GiB of bf16 weights, removed afterwards; the sum is "
        f"made in fp32 in CPU memory, {2 * merged:.0f} GiB.",
        "",
    ]


def _tokens() -> list[str]:
    evaluated = (1 + TRAINED_ARMS) * NUM_HELD_OUT * TEST_ROWS
    work = {
        "training, each arm": NUM_TRAIN * NUM_EPOCHS * TOKENS_PER_ROW,
        f"synthesis: {2 * NUM_CANDIDATES} answers (one round)": 2 * NUM_CANDIDATES * (REQUEST_TOKENS + TEMPLATE_TOKENS),
        f"scoring: {NUM_CANDIDATES} x {SCORE_ROWS} rows": NUM_CANDIDATES * SCORE_ROWS * TOKENS_PER_ROW,
        f"evaluation: {1 + TRAINED_ARMS} x {NUM_HELD_OUT} x {TEST_ROWS:,} rows": evaluated * TOKENS_PER_ROW,
    }
    lines = [
        "## Tokens and engine hours",
        "",
        "The same for both models. Hours of one engine (or of one training, over all its workers) at rates that "
        "you must measure on your hardware; engine",
        "starts, and prefix-cache hits, are not counted.",
        "",
        "| work | tokens | " + " | ".join(f"at {rate:,} tokens/s" for rate in RATES) + " |",
        "|---|---|" + "---|" * len(RATES),
    ]
    lines += [
        f"| {name} | {count / 1e6:,.1f} M | "
        + " | ".join(f"{capacity.hours(count, rate):,.1f} h" for rate in RATES)
        + " |"
        for name, count in work.items()
    ]
    outcomes = evaluated * capacity.OUTCOME_BYTES / 2**20
    return [
        *lines,
        "",
        f"Outcomes of the evaluation: {evaluated:,} rows, {outcomes:.0f} MiB. Templates: under 1 MiB. The rows "
        "themselves come on top.",
        "",
    ]


def _checked() -> list[str]:
    shapes, train = DEMO.shapes(), TrainConfig.model_validate(DEMO_TRAIN)
    worker = capacity.worker_memory(train, shapes, tokens_per_row=0)
    checkpoint = capacity.trained_weights(train, shapes) * 12 / 1e6
    lines = [
        "## Checked against what was measured",
        "",
        "The demo of 2026-11-24 (SmolLM2-135M, fp32 on two CPU workers, ZeRO-2, micro-batch 4; "
        "`tests/unit/test_capacity.py` holds the calculator to these figures):",
        "",
        "| quantity | calculator | measured | difference |",
        "|---|---|---|---|",
    ]
    for arm, tokens in DEMO_TOKENS.items():
        found = capacity.PROCESS_GIB + capacity.worker_memory(train, shapes, tokens_per_row=tokens).device
        lines.append(_row(f"largest worker, arm {arm}, GiB", found, MEASURED_GIB[arm], 2))
    for checkpointing, measured in MEASURED_ELEMENTS.items():
        saved, _ = capacity.activation_elements(shapes, checkpointing=checkpointing)
        lines.append(
            _row(f"elements saved per token{', gradient checkpointing' if checkpointing else ''}", saved, measured, 0)
        )
    lines.append(_row("checkpoint, MB", checkpoint, MEASURED_MB["checkpoint"], 1))
    lines.append(_row("adapter, MB", checkpoint / 3, MEASURED_MB["adapter"], 1))
    return [
        *lines,
        "",
        f"The workers' figure holds {capacity.PROCESS_GIB:g} GiB for the process (measured: libraries imported, "
        "nothing loaded); what it lacks is what",
        "Ray's worker, the row iterators and the allocator add (not taken apart; nothing says that it grows with "
        "the model). For a model of this size",
        f"weights ({worker.weights:.1f} GiB) and process dominate, so the demo checks the weights and the saved "
        "elements, and hardly the optimizer's part",
        f"({worker.optimizer:.2f} GiB).",
        "",
        "Where activations dominate (long rows, large micro-batches, no gradient checkpointing) expect more than "
        "the table (a Llama of 1.07 G weights, LoRA,",
        "micro-batches of 256 rows of 41 tokens: 16.0 GiB by the calculator, 21.7 measured on an H100): "
        "temporary gradients of the",
        "backward pass, attention scores of kernels that store them, the output head of long answers, and the "
        "allocator's fragments are not counted;",
        "the CUDA context (about half a GiB) is not either. With ZeRO-3 the weights column holds up to 10^9 "
        "gathered weights, DeepSpeed's default limit.",
        "Below ZeRO-3 rank 0 reads the complete model into CPU memory, fp32 where all weights train; the others "
        "receive it from there",
        "(on a GPU, where nothing was measured, into its memory alone). With ZeRO-3 no rank holds it: weights are "
        "taken apart as they are read, but for experts, which every worker fuses first",
        "([measured](../EXPERIMENTS.md) with 1.2 GiB on two CPU workers, not on a GPU). Full fine-tuning of the 70B "
        "model does not fit common hosts nevertheless: rank 0 gathers",
        "every checkpoint, and the finished weights.",
        "",
    ]


def _row(name: str, found: float, measured: float, digits: int) -> str:
    return f"| {name} | {found:,.{digits}f} | {measured:,.{digits}f} | {100 * (found / measured - 1):+.1f} % |"


def _train(workers: int, stage: int, *, lora: bool) -> TrainConfig:
    values = {
        "num_workers": workers,
        "global_batch": 64,
        "micro_batch": 1,
        "gpus_per_worker": 1,
        "precision": "bf16",
        "zero_stage": stage,
    }
    return TrainConfig.model_validate({**values, "gradient_checkpointing": True, **({} if lora else {"lora": None})})


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
