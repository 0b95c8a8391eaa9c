"""Driver side of training: checks, Ray Train, result."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

from paft_ray.compat.lazy_imports import uncollected, without
from paft_ray.compat.ray import TRAIN_GROUP_START_TIMEOUT_S, TRAIN_PRINT_PATCH
from paft_ray.config import TrainConfig
from paft_ray.cpu_priority import as_computing
from paft_ray.errors import UserError, one_line
from paft_ray.log import get_logger, stage_label
from paft_ray.models.encoder import make_encoder
from paft_ray.models.resolve import hub_id
from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.grouping import groups
from paft_ray.prompts.sampling import make_draw
from paft_ray.storage.store import Store
from paft_ray.storage.temp_dirs import node_folder, owned_prefix, remove_left
from paft_ray.tracking.tracker_run import TrackerRun
from paft_ray.training import checkpoint
from paft_ray.training.best_step import label_rows
from paft_ray.training.data import GlobalOrder, ResumableDataConfig, RowSource, data_cpus
from paft_ray.training.example_builder import validation_rows
from paft_ray.training.fingerprint import fingerprint
from paft_ray.training.job import FOLDERS, Training, TrainingJob
from paft_ray.training.result import RESULT, TrainResult, read_result

_log = get_logger(__name__)
_LONGEST = 300


def fit(trainings: Sequence[Training], *, callbacks: Sequence[UserCallback] = ()) -> list[TrainResult]:
    """Results of fine-tuning on Ray Train, one training after another in one group of workers (ZeRO-3: each in a group
    of its own, for DeepSpeed keeps hold of the weights of an engine of that stage until its process ends): all on the
    resources that the first one's `config` names.

    A call with the same settings resumes each training from its newest checkpoint. Ray must be initialized.
    `callbacks`: Ray Train's, called where the workers report a checkpoint or a validation.
    Raises `UserError` before any resource is requested.
    """
    data = {id(training.data): training.data for training in trainings}
    tables = {key: ray.put(table.combine_chunks()) for key, table in data.items()}  # arms share theirs
    encoders: dict[tuple[int, int, str], tuple[Encoder, ray.ObjectRef]] = {}  # and theirs
    jobs, orders = {}, {}
    for training in trainings:
        _check_training(training)
        key = (id(training.task), id(training.model), training.model_files.path)
        if key not in encoders:
            made = make_encoder(training.task, training.model, training.model_files.path)
            encoders[key] = made, ray.put(made)
        encoder, shared = encoders[key]
        for template in training.templates.templates:
            encoder.check(template)
        jobs[training.folder] = _job(training, encoder)
        orders[training.folder] = _order(training, shared, tables[id(training.data)], jobs[training.folder])
    own_group = trainings[0].config.zero_stage == 3
    for folders in [[folder] for folder in jobs] if own_group else [list(jobs)]:
        _run_on_ray(
            {folder: jobs[folder] for folder in folders},
            {folder: orders[folder] for folder in folders},
            trainings[0],
            callbacks,
        )
    return [read_result(training.run, training.folder) for training in trainings]


def _check_training(training: Training) -> None:
    """Raises `UserError` for a training that cannot run on this cluster."""
    check(
        training.config,
        num_examples=training.data.num_rows,
        num_templates=len(training.templates),
        cluster=ray.cluster_resources(),
    )


def _job(training: Training, encoder: Encoder) -> TrainingJob:
    """What the workers do for a training."""
    config, out = training.config, training.out
    shown = training.validation_templates or training.templates
    labels = label_rows(training.validation, shown, encoder, config)
    validated = training.validation if config.validate_every else None
    num_steps, _ = training.plan
    name = fingerprint(training, labels)
    _warn_of_others(training, name)
    return TrainingJob(
        config=config,
        model=training.model_files,
        base_id=hub_id(training.model.id),
        seed=training.seed,
        num_steps=num_steps,
        out=out.root,
        fingerprint=name,
        label=stage_label(training.folder),
        labels=labels,
        validation=() if validated is None else validation_rows(validated, shown, encoder, config.num_validation),
        tracker_run=_tracker_run(training, out.below(f"checkpoints/{name}")),
    )


def _warn_of_others(training: Training, name: str) -> None:
    """Says where checkpoints are there and none can be resumed, so that a training does not start anew in silence."""
    found = {entry.base_name for entry in training.out.entries("checkpoints")}
    if found and name not in found:
        _log.warning(
            "%s starts from step 0: its checkpoints were made with other settings, code or library versions",
            stage_label(training.folder),
        )


def _tracker_run(training: Training, checkpoints: Store) -> TrackerRun | None:
    """The run of the trackers that shows a training, None where no tracker is asked for."""
    params = {
        "model": training.model.model_dump(mode="json"),
        "train": training.config.model_dump(mode="json", exclude={"arms", "seeds"}),
        "seed": training.seed,
        "num_templates": len(training.templates),
        "num_examples": training.data.num_rows,
    }
    return TrackerRun.of(
        training.tracking,
        checkpoints,
        name=training.out.name,
        group=training.run.name,
        label=stage_label(training.folder),
        params=params,
    )


def _order(training: Training, encoder: ray.ObjectRef, table: ray.ObjectRef, job: TrainingJob) -> GlobalOrder:
    """The rows of a training, which Ray Data makes from `table` with `encoder`."""
    config, seed = training.config, training.seed
    num_steps, num_positions = training.plan
    source = RowSource(
        table=table,
        encoder=encoder,
        templates=training.templates.templates,
        draw=make_draw(config.sampling, seed=seed, groups=groups(training.templates, config.sampling.over)),
        seed=seed,
        num_positions=num_positions,
    )
    return GlobalOrder(
        source=source,
        num_steps=num_steps,
        global_batch=config.global_batch,
        checkpoints=job.store.root,
        task_cpus=data_cpus(config),
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
            f"cluster of {cluster.get('CPU', 0):g} CPUs; take fewer workers, or start Ray with more logical CPUs (ray "
            "start --num-cpus)"
        )
    if gpus > cluster.get("GPU", 0):
        raise UserError(
            f"train needs {gpus} GPUs ({name} x gpus_per_worker), the cluster has {cluster.get('GPU', 0):g}; "
            "take fewer workers"
        )


def _run_on_ray(
    jobs: Mapping[str, TrainingJob],
    orders: Mapping[str, GlobalOrder],
    first: Training,
    callbacks: Sequence[UserCallback],
) -> None:
    """Trains all; the workers leave result.json in the folder of each."""
    for job in jobs.values():
        Store(job.out).delete(RESULT)
    os.environ.setdefault(TRAIN_PRINT_PATCH, "0")  # else every progress line comes twice
    # A group of fixed size waits for nodes that are being added; an elastic one only until Ray has noticed that a node
    # is gone, then it takes fewer.
    os.environ.setdefault(TRAIN_GROUP_START_TIMEOUT_S, "300" if first.config.min_workers is None else "60")
    try:
        _fit_while_it_gets_on(jobs, orders, first, callbacks)
    finally:  # workers that are killed leave theirs; on other nodes the next attempt removes them
        for job in jobs.values():
            remove_left(node_folder(), owned_prefix(FOLDERS, Store(job.out).root))
    first.out.delete("ray")


def _fit_while_it_gets_on(
    jobs: Mapping[str, TrainingJob],
    orders: Mapping[str, GlobalOrder],
    first: Training,
    callbacks: Sequence[UserCallback],
) -> None:
    """Trains. Ray counts the failures of a complete run, which may take days: where they are too many, another run goes
    on as long as there are new checkpoints."""
    while True:
        written = _written(jobs)
        try:
            with _own_ctrl_c():
                _trainer(jobs, orders, first.config, storage=first.out.uri("ray"), callbacks=callbacks).fit()
            return
        except TrainingFailedError as error:
            grown = any(new > old for new, old in zip(_written(jobs), written, strict=True))
            if not grown or not first.config.max_failures:
                raise
            _log.warning(f"the group of workers starts again from its newest checkpoint: {one_line(error)[:_LONGEST]}")
            first.out.delete("ray")


def _written(jobs: Mapping[str, TrainingJob]) -> list[int]:
    """Step of the newest checkpoint of each training."""
    return [max(checkpoint.steps(job.store), default=0) for job in jobs.values()]


def _trainer(
    jobs: Mapping[str, TrainingJob],
    orders: Mapping[str, GlobalOrder],
    config: TrainConfig,
    *,
    storage: str,
    callbacks: Sequence[UserCallback],
) -> TorchTrainer:
    """The Ray Train run. Waiting threads spin briefly, then sleep: endless spinning next to other work on
    the same cores was measured 5 to 30 times slower, no spinning on idle cores 1.5 times."""
    resources: dict[str, float] = {"CPU": config.cpus_per_worker}
    if config.gpus_per_worker:
        resources["GPU"] = config.gpus_per_worker
    workers = config.num_workers if config.min_workers is None else (config.min_workers, config.num_workers)
    return TorchTrainer(
        _start_worker,
        train_loop_config=dict(jobs),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if config.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=bool(config.gpus_per_worker), resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=next(iter(jobs.values())).fingerprint,
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


def _start_worker(jobs: dict[str, TrainingJob]) -> None:
    """In a Ray Train worker: imports torch and DeepSpeed as they are needed here, then trains."""
    as_computing()
    if not next(iter(jobs.values())).config.gpus_per_worker:
        os.environ["DS_ACCELERATOR"] = "cpu"
    with uncollected(), without("mlflow", "sklearn"):  # DeepSpeed's autotuner, and assisted generation of transformers
        from paft_ray.training import worker  # late: the driver loads neither DeepSpeed nor PEFT
    worker.run(jobs)
