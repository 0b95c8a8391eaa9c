"""Driver side of training: checks, Ray Train, result."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

from paft_ray.compat.lazy_imports import uncollected, without
from paft_ray.config import ModelConfig, TrackingConfig, TrainConfig, input_key, weights_key
from paft_ray.cpu_priority import as_computing, usable_cpus
from paft_ray.errors import UserError
from paft_ray.models.identity import model_identity
from paft_ray.models.resolve import hub_id
from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.prompts.sampling import PerExample, make_draw
from paft_ray.storage.store import Store, weights_hash
from paft_ray.tasks.task import Task
from paft_ray.tracking.tracker_run import TrackerRun
from paft_ray.training.checkpoint_selection import LabelRows, label_rows
from paft_ray.training.data import GlobalOrder, ResumableDataConfig, RowSource, data_cpus, make_encoder
from paft_ray.training.data_order import plan
from paft_ray.training.example_builder import ExampleBuilder, Row, rows_of
from paft_ray.training.metrics_writer import read_metrics

if TYPE_CHECKING:
    from paft_ray.training import loop

RESULT = "result.json"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished training."""

    fingerprint: str
    """Names the folders of its checkpoints and of its audit log."""
    kind: Literal["adapter", "weights"]
    """What was written: a PEFT adapter, or whole weights after full fine-tuning."""
    export: str
    """Where, relative to the run."""
    sha256: str
    """Over names and contents of its safetensors files."""
    num_steps: int
    exported_step: int
    """Optimizer steps behind the exported weights."""
    final_loss: float
    """Mean loss per answer token over the last tenth of the steps."""
    tokens_per_s: float
    """Tokens of prompts and answers, all workers together, over the time of the steps."""
    time_s: float
    """Seconds in optimizer steps, without starts and checkpoints."""
    peak_memory_gib: float
    """Of the largest worker, trainings before this one in the same group included."""
    cut_rows: int
    """Rows whose fields were cut to keep to `model.max_prompt_tokens`."""
    nodes: list[str]
    """Address of the node of each worker, by rank, as the training ended."""
    history: list[dict[str, Any]]
    """Metrics of every step in the lineage of the weights."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one training is of, and where its files go."""

    task: Task
    data: pa.Table
    """Columns id, fields, answer."""
    templates: PromptSet
    config: TrainConfig
    model: ModelConfig
    model_path: str
    seed: int
    run: Store
    folder: str
    """Of the run, gets adapter/ (or weights/), metrics.jsonl, tensorboard/, checkpoints/."""
    validation: pa.Table | None = None
    """Rows of the periodic validation."""
    validation_templates: PromptSet | None = None
    """Default: the training templates."""
    tracking: TrackingConfig | None = None

    @property
    def out(self) -> Store:
        """Its folder as a place of its own."""
        return self.run.below(self.folder)


def fit(trainings: Sequence[Training], *, callbacks: Sequence[UserCallback] = ()) -> list[TrainResult]:
    """Fine-tunes on Ray Train, one training after another in one group of workers (ZeRO-3: each in a group of its own,
    for DeepSpeed keeps hold of the weights of an engine of that stage until its process ends): all on the resources
    that the first one's `config` names.

    A call with the same settings goes on from the newest checkpoint of each. Ray must be initialised.
    `callbacks`: Ray Train's, called where the workers report a checkpoint or a validation.
    Raises `UserError` before any resource is requested.
    """
    data = {id(training.data): training.data for training in trainings}
    tables = {key: ray.put(table.combine_chunks()) for key, table in data.items()}  # arms share theirs
    jobs, orders = {}, {}
    for training in trainings:
        config, templates = training.config, training.templates
        check(
            config, num_examples=training.data.num_rows, num_templates=len(templates), cluster=ray.cluster_resources()
        )
        encoder = make_encoder(training.task, training.model, training.model_path)
        for template in templates.templates:
            encoder.check(template)
        jobs[training.folder], orders[training.folder] = _job_and_order(training, encoder, tables[id(training.data)])
    apart = trainings[0].config.zero_stage == 3
    for folders in [[folder] for folder in jobs] if apart else [list(jobs)]:
        _run_on_ray(
            {folder: jobs[folder] for folder in folders},
            {folder: orders[folder] for folder in folders},
            trainings[0],
            callbacks,
        )
    found = {training.folder: training.out.read_json(RESULT) for training in trainings}
    return [
        TrainResult(
            **found[training.folder],
            export=f"{training.folder}/{found[training.folder]['kind']}",
            history=read_metrics(training.out),
        )
        for training in trainings
    ]


def _job_and_order(training: Training, encoder: Encoder, table: ray.ObjectRef) -> tuple[dict[str, Any], GlobalOrder]:
    """What the workers do (the fields of `loop.Job`), and their rows, which are made from `table`."""
    config, data, model, seed, out = training.config, training.data, training.model, training.seed, training.out
    steps, positions = plan(
        data.num_rows, epochs=config.num_epochs, steps=config.num_steps, global_batch=config.global_batch
    )
    shown = training.validation_templates or training.templates
    labels = label_rows(training.validation, shown, encoder, config)
    print_id = fingerprint(
        task=training.task,
        data=data,
        templates=training.templates,
        config=config,
        model=model,
        model_path=training.model_path,
        seed=seed,
        labels=labels,
    )
    source = RowSource(
        table=table,
        encoder=ray.put(encoder),
        templates=training.templates.templates,
        draw=make_draw(config.sampling, seed=seed),
        seed=seed,
        num_positions=positions,
    )
    store = out.uri(f"checkpoints/{print_id}")
    settings = {
        "model": model.model_dump(mode="json"),
        "train": config.model_dump(mode="json", exclude={"arms", "seeds"}),
    }
    params = {**settings, "seed": seed, "num_templates": len(training.templates), "num_examples": data.num_rows}
    job = {
        "config": config,
        "model_path": training.model_path,
        "base_id": hub_id(model.id),
        "seed": seed,
        "num_steps": steps,
        "out": out.root,
        "fingerprint": print_id,
        "name": out.name,
        "labels": labels,
        "validation": _validation_rows(training.validation, shown, encoder, config),
        "shown": TrackerRun.of(training.tracking, Store(store), name=out.name, group=training.run.name, params=params),
    }
    return job, GlobalOrder(
        source=source, num_steps=steps, global_batch=config.global_batch, checkpoints=store, task_cpus=data_cpus(config)
    )


def check(config: TrainConfig, *, num_examples: int, num_templates: int, cluster: Mapping[str, float]) -> None:
    """Raises `UserError` for what cannot run: no data, no templates, more than the cluster holds. `cluster`: total
    resources."""
    if num_examples < 1:
        raise UserError("training data: 0 examples; give at least one")
    if num_templates < 1:
        raise UserError("training templates: 0 templates; give at least one")
    workers, name = config.fewest_workers, "num_workers" if config.min_workers is None else "min_workers"
    cpus, gpus = workers * config.cpus_per_worker, workers * config.gpus_per_worker
    if cpus + data_cpus(config) > cluster.get("CPU", 0):
        raise UserError(
            f"train.{name}={workers} x cpus_per_worker={config.cpus_per_worker} leaves no CPU for Ray Data on a "
            "cluster of "
            f"{cluster.get('CPU', 0):g} CPUs; take fewer workers, or start Ray with more logical CPUs (ray start "
            "--num-cpus)"
        )
    if gpus > cluster.get("GPU", 0):
        raise UserError(
            f"train needs {gpus} GPUs ({name} x gpus_per_worker), the cluster has {cluster.get('GPU', 0):g}; "
            "take fewer workers"
        )


def fingerprint(
    *,
    task: Task,
    data: pa.Table,
    templates: PromptSet,
    config: TrainConfig,
    model: ModelConfig,
    model_path: str,
    seed: int,
    labels: LabelRows | None = None,
) -> str:
    """16 hex digits over all that decides the weights; resources, ZeRO stage and checkpoint settings are left out."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_table(data.combine_chunks())
    parts = {
        "task": task.model_dump(mode="json"),
        "data": hashlib.sha256(sink.getvalue()).hexdigest(),
        "templates": [template.id for template in templates.templates],
        "train": weights_key(config),
        "model": model_identity(model.id, model.revision, model_path),
        "encoding": input_key(model),
        "seed": seed,
    }
    if labels:  # they decide which weights are exported
        parts["labels"] = [
            [row["example_id"], row["template"], row["prompt_ids"], row["answer_ids"]] for row in labels.rows
        ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _validation_rows(
    table: pa.Table | None, templates: PromptSet, encoder: Encoder, config: TrainConfig
) -> tuple[Row, ...]:
    """Rows of the periodic validation under drawn templates, the same for every training."""
    if not config.validate_every or table is None or not table.num_rows:
        return ()
    wanted = min(config.num_validation, table.num_rows)
    maker = ExampleBuilder(
        table=table,
        templates=templates.templates,
        encoder=encoder,
        draw=PerExample(seed=0),
        seed=0,
        num_positions=wanted,
    )
    return tuple(rows_of(maker.rows(np.arange(wanted, dtype=np.int64))))


def _run_on_ray(
    jobs: dict[str, dict[str, Any]], orders: dict[str, GlobalOrder], first: Training, callbacks: Sequence[UserCallback]
) -> None:
    """Trains all; the workers leave result.json in the folder of each."""
    for job in jobs.values():
        Store(job["out"]).delete(RESULT)
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # else every progress line comes twice
    # A group of fixed size waits for nodes that are being added; an elastic one only until Ray has noticed that a node
    # is gone, then it takes fewer.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "300" if first.config.min_workers is None else "60")
    with _own_ctrl_c():
        _trainer(jobs, orders, first.config, storage=first.out.uri("ray"), callbacks=callbacks).fit()
    first.out.delete("ray")


def _trainer(
    jobs: dict[str, dict[str, Any]],
    orders: dict[str, GlobalOrder],
    config: TrainConfig,
    *,
    storage: str,
    callbacks: Sequence[UserCallback],
) -> TorchTrainer:
    """The Ray Train run. Waiting threads spin briefly, then sleep: endless spinning beside other work on
    the same cores was measured 5 to 30 times slower, no spinning on idle cores 1.5 times."""
    resources: dict[str, float] = {"CPU": config.cpus_per_worker}
    if config.gpus_per_worker:
        resources["GPU"] = config.gpus_per_worker
    workers = config.num_workers if config.min_workers is None else (config.min_workers, config.num_workers)
    return TorchTrainer(
        _work,
        train_loop_config=jobs,
        torch_config=TorchConfig(backend="nccl" if config.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=bool(config.gpus_per_worker), resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=next(iter(jobs.values()))["fingerprint"],
            storage_path=storage,
            callbacks=list(callbacks),
            failure_config=FailureConfig(max_failures=config.max_failures),
            worker_runtime_env={"env_vars": {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "10000")}},
        ),
        datasets=dict.fromkeys(orders, ray.data.range(1)),
        dataset_config=ResumableDataConfig(orders),
    )


@contextmanager
def _own_ctrl_c() -> Iterator[None]:
    """Ray Train leaves its own handler behind, which lets Ctrl-C pass once a training is over; after the block that of
    before is back."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _work(jobs: dict[str, dict[str, Any]]) -> None:
    """One Ray Train worker: each training that has no result yet."""
    as_computing()
    config: TrainConfig = next(iter(jobs.values()))["config"]
    if not config.gpus_per_worker:
        os.environ["DS_ACCELERATOR"] = "cpu"
    with uncollected(), without("mlflow", "sklearn"):  # DeepSpeed's autotuner, and assisted generation of transformers
        import torch
        import torch.distributed as dist
        from transformers.utils.logging import disable_progress_bar

        from paft_ray.training import loop
    disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")  # one line per collective call otherwise
    context = ray.train.get_context()
    if not config.gpus_per_worker:
        torch.set_num_threads(config.threads_per_worker or max(1, usable_cpus() // context.get_local_world_size()))
    worker = loop.Worker(rank=context.get_world_rank(), world_size=context.get_world_size())
    for name, values in jobs.items():
        job = loop.Job(**values)
        if not Store(job.out).exists(RESULT):  # else a group that was lost since has left it
            _train(name, job, worker)
            loop.free_memory()
            dist.barrier()


def _train(name: str, job: loop.Job, worker: loop.Worker) -> None:
    """Rows from Ray Data, the loop, the export. Collective."""
    import torch
    import torch.distributed as dist

    from paft_ray.training import export, loop

    steps = step_rows(ray.train.get_dataset_shard(name), job.config.global_batch // worker.world_size)
    engine = loop.train(
        job, steps, worker, report=ray.train.report, losing=lambda: ray.train.get_preemption_info() is not None
    )
    memory = torch.tensor(loop.peak_memory_gib(engine.device), device=engine.device)
    dist.all_reduce(memory, op=dist.ReduceOp.MAX)
    nodes = [""] * worker.world_size
    dist.all_gather_object(nodes, ray.util.get_node_ip_address())
    step, weights = export.final_weights(engine, job, worker)
    if worker.rank == 0:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            if job.config.lora is None:
                export.export_weights(weights, folder, job.model_path, precision=job.config.precision)
            else:
                export.export_adapter(engine, weights, folder, base_id=job.base_id)
            _publish(job, folder, exported_step=step, peak_memory_gib=float(memory), nodes=nodes)
    engine.destroy()


def step_rows(shard: Any, share: int) -> Iterator[list[Row]]:
    """This rank's rows of one step after another from a Ray Data iterator."""
    for batch in shard.iter_batches(batch_size=share, batch_format="pyarrow", prefetch_batches=4):
        yield batch.to_pylist()


def _publish(job: loop.Job, folder: Path, *, exported_step: int, peak_memory_gib: float, nodes: list[str]) -> None:
    """Uploads the finished weights, then result.json."""
    out = Store(job.out)
    kind = "weights" if job.config.lora is None else "adapter"
    out.upload_dir(folder, kind)
    history = read_metrics(out)
    last = history[-max(1, len(history) // 10) :]
    time_s = sum(row["time_s"] for row in history)
    result = {
        "fingerprint": job.fingerprint,
        "kind": kind,
        "sha256": weights_hash(folder),
        "num_steps": job.num_steps,
        "exported_step": exported_step,
        "final_loss": sum(row["loss"] for row in last) / len(last),
        "tokens_per_s": sum(row["tokens"] for row in history) / time_s,
        "time_s": time_s,
        "peak_memory_gib": peak_memory_gib,
        "cut_rows": sum(row["cut_rows"] for row in history),
        "nodes": nodes,
    }
    out.write_json(RESULT, result)
