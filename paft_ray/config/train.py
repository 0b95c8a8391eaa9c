"""Section `train`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from paft_ray.config.base import Fraction, Options, Positive, Precision, Section, Seed, each_once, fast_precision
from paft_ray.config.deepspeed_settings import check_deepspeed_settings
from paft_ray.config.sampling import PerExampleConfig, SamplingConfig, sampling_key

TrainedArm = Literal["sft", "top_accuracy", "paft"]


class LoraConfig(Section):
    """Low-rank adapters; `null` instead of this section trains all weights."""

    rank: Positive = 8
    """Rank."""
    alpha: Positive = 16
    """Scale numerator: the update is multiplied by alpha / rank."""
    dropout: Fraction = 0.0
    """Dropout on the adapter's input. Above 0 a resumed run still draws the same masks (keyed by step and rank), with
    as many workers."""
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["all-linear"] = "all-linear"
    """Names of the linear layers that get an adapter; the paper uses q_proj, v_proj."""


class TrainConfig(Section):
    """Stage `train`: Ray Train + DeepSpeed; every arm gets the same examples, order, steps and seed."""

    arms: tuple[TrainedArm, ...] = ("sft", "top_accuracy", "paft")
    """Arms to train; `base` needs no training and is always evaluated."""
    seeds: tuple[Seed, ...] = (0,)
    """One training per arm and seed: weights, order of examples and draws all follow the seed."""
    sampling: SamplingConfig = PerExampleConfig()
    """Which template an example is trained under."""
    num_epochs: Annotated[float, Field(gt=0)] | None = 3
    """Passes over the training rows; exactly one of `num_epochs` and `num_steps` is set."""
    num_steps: Positive | None = None
    """Optimizer steps."""
    global_batch: Positive = 16
    """Examples per optimizer step over all workers."""
    micro_batch: Positive = 8
    """Examples per forward pass of one worker; global_batch must be a multiple of num_workers x micro_batch."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape of the decay after warm-up."""
    warmup_fraction: Fraction = 0.1
    """Fraction of steps with a linearly rising learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Gradient clipping by global norm; null: none."""
    lora: LoraConfig | None = LoraConfig()
    """Adapter settings; null trains all weights (rank 0 then holds 12 bytes per weight while it writes a
    checkpoint)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    compile: bool = False
    """torch.compile each layer: faster steps, after about a minute for each kind of pass (training, validation). Needs
    a C++ compiler and Python's headers on every node, and a ZeRO stage below 3."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage: what is sharded (1 optimizer, 2 + gradients, 3 + weights, from the moment they are
    read)."""
    offload: Literal["none", "optimizer", "optimizer_and_weights"] = "none"
    """DeepSpeed offload to CPU memory; weights only with ZeRO-3."""
    deepspeed: Options = Field(default_factory=dict)
    """Settings of DeepSpeed's `zero_optimization` that trade memory for speed, such as `overlap_comm` and
    `reduce_bucket_size` (listed in `paft_ray/config/deepspeed_settings.py`)."""
    num_workers: Positive = 1
    """Data-parallel workers; a training resumes from its checkpoint with another number, at every ZeRO stage, with
    adapters and with all weights. Without GPUs several workers of few threads are faster than one of all cores (two of
    one thread on two cores 1.2 times), if the memory allows for them."""
    min_workers: Positive | None = None
    """Fewest workers that a running training continues with where nodes are lost; it grows again up to num_workers.
    Passes that their number leaves incomplete are filled with rows of weight 0. null: it waits for num_workers."""
    cpus_per_worker: Positive = 1
    """Logical CPUs of one worker."""
    gpus_per_worker: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs of one worker."""
    precision: Precision = Field(default_factory=lambda values: fast_precision(values["gpus_per_worker"]))
    """Dtype of the passes (adapters and moments stay fp32); default: bf16 on GPUs and on CPUs that multiply it
    natively, else fp32."""
    threads_per_worker: Positive | None = None
    """Computing threads of a CPU worker; default: the cores of the node that a worker may use, divided by its
    workers."""
    checkpoint_every: Positive = 50
    """Optimizer steps between checkpoints; the last step always has one."""
    keep_checkpoints: Positive = 2
    """Newest checkpoints kept per arm."""
    export: Literal["last", "worst", "q0.1", "mean"] = "last"
    """Whose weights are exported: those of the last step, or of the checkpoint with the best accuracy on validation
    rows under training templates: of the worst template, the 10 % quantile, or the mean over templates (tasks with
    labels)."""
    validate_every: Positive | None = None
    """Optimizer steps between validations on training templates; null: none."""
    num_validation: Positive = 32
    """Validation rows of one such validation; with `export` other than last, examples measured at every checkpoint."""
    num_validation_templates: Positive = 8
    """Training templates that each of these examples is measured under, with `export` other than last."""
    max_failures: Annotated[int, Field(ge=0)] = 2
    """Restarts of the worker group after a failure before the stage fails; they are counted anew once a checkpoint was
    written."""

    @field_validator("deepspeed")
    @classmethod
    def _tuning(cls, given: Options, info: ValidationInfo) -> Options:
        check_deepspeed_settings(given, info.data.get("zero_stage", 0))
        return given

    @model_validator(mode="after")
    def _combinations(self) -> TrainConfig:
        if (self.num_epochs is None) == (self.num_steps is None):
            raise ValueError("set exactly one of train.num_epochs and train.num_steps (the other one to null)")
        if self.fewest_workers > self.num_workers:
            raise ValueError(
                f"train.min_workers={self.min_workers} is above train.num_workers={self.num_workers}; lower it, "
                "or leave it out"
            )
        if self.global_batch % (self.num_workers * self.micro_batch):
            raise ValueError(
                f"train.global_batch={self.global_batch} is not a multiple of num_workers x micro_batch = "
                f"{self.num_workers} x {self.micro_batch}"
            )
        if self.offload == "optimizer_and_weights" and self.zero_stage != 3:
            raise ValueError(f"train.offload=optimizer_and_weights needs train.zero_stage=3, given {self.zero_stage}")
        if self.compile and self.zero_stage == 3:
            raise ValueError(
                "train.compile needs train.zero_stage of 0 to 2, given 3: each layer would be compiled for itself"
            )
        if self.offload != "none" and self.zero_stage == 0:
            raise ValueError("train.offload needs train.zero_stage of 1 or more, given 0")
        if self.precision == "fp16" and not self.gpus_per_worker:
            raise ValueError("train.precision=fp16 needs a GPU (train.gpus_per_worker=1); on a CPU use bf16 or fp32")
        if self.precision == "fp16" and self.zero_stage:
            # DeepSpeed 0.19 clips gradients there before autocast's loss scale is divided out.
            raise ValueError(f"train.precision=fp16 needs train.zero_stage=0, given {self.zero_stage}; or use bf16")
        each_once("train", arms=self.arms, seeds=self.seeds)
        return self

    @property
    def fewest_workers(self) -> int:
        """Workers without which a training does not run."""
        return self.min_workers or self.num_workers


_RESOURCES = {
    "arms",
    "seeds",
    "micro_batch",
    "gradient_checkpointing",
    "compile",
    "zero_stage",
    "offload",
    "deepspeed",
    "num_workers",
    "min_workers",
    "cpus_per_worker",
    "gpus_per_worker",
    "threads_per_worker",
    "checkpoint_every",
    "keep_checkpoints",
    "export",
    "validate_every",
    "num_validation",
    "num_validation_templates",
    "max_failures",
}
_CHOICE = {"export", "checkpoint_every", "num_validation", "num_validation_templates"}


def weights_key(train: TrainConfig) -> dict[str, Any]:
    """The settings that decide the weights; with another choice of the rest a training may be resumed and its result is
    kept."""
    values = train.model_dump(mode="json", exclude=_RESOURCES if train.export == "last" else _RESOURCES - _CHOICE)
    return {**values, "sampling": sampling_key(train.sampling)}
