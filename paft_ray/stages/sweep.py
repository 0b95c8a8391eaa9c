"""`paft sweep`: Ray Tune over the size of the prompt set; nested subsets, equal optimizer steps, the same global order in every trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow.compute as pc
import ray
from ray import tune
from rich.console import Console
from rich.table import Table

from paft_ray.artifacts import Manifest, Run, cached
from paft_ray.config import Config, TrainConfig, engine_key, weights_key
from paft_ray.errors import StageError, UserError
from paft_ray.models import model_identity, resolve_model
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.report.sweep import Trial, write_sweep
from paft_ray.stages import prepare, synthesize
from paft_ray.stages.evaluate import Candidate, evaluate_models
from paft_ray.stages.prepare import examples_of
from paft_ray.tasks.task import load_task

Point = dict[str, int]
"""`size` and `subset_seed` of a trial."""


def run(config: Config, run: Run, *, force: bool = False) -> Manifest:
    """Trains one model per size and subset seed, evaluates all in one stage, writes report/sweep.json, sweep.md and the curve.

    The manifest: the content of sweep.json and `failed`, the names of trials that failed. Raises `StageError` where all did.
    """
    prepare.run(config, run, force=force)
    synthesize.run(config, run, force=force)
    prompts = PromptSet.from_table(run.read_table("prompts/prompt_set.parquet"))
    available = len(prompts.split("train"))
    if too_large := [size for size in config.sweep.sizes if size > available]:
        raise UserError(f"sweep.sizes: {too_large} asked for, the training set holds {available} templates; lower the sizes or add templates")
    path = resolve_model(config.model.id, config.model.revision)
    key = {
        "sweep": config.sweep.model_dump(mode="json", exclude={"max_concurrent"}),
        "train": weights_key(config.train),
        "evaluate": config.evaluate.model_dump(mode="json"),
        "task": load_task(config.task).model_dump(mode="json"),
        "engine": engine_key(config.engine),
        "seed": config.train.seeds[0],
        "model": {**config.model.model_dump(mode="json"), "identity": model_identity(config.model.id, config.model.revision, path)},
        "report": config.report.model_dump(mode="json"),
        "data": {name: run.content_hash(f"data/{name}.parquet") for name in ("train", "test")},
        "prompts": run.content_hash("prompts/prompt_set.parquet"),
    }
    return cached(run, "sweep", key, lambda: _sweep(config, run, prompts, path, force), force=force)


def _sweep(config: Config, run: Run, prompts: PromptSet, model_path: str, force: bool) -> Manifest:
    points: list[Point] = [{"size": size, "subset_seed": seed} for size in config.sweep.sizes for seed in config.sweep.subset_seeds]
    if force:
        for point in points:
            run.delete(f"sweep/{_name(point)}")
    finished = train_points(config, run, points, tune.with_parameters(_trial, settings=config, root=run.root, model_path=model_path))
    models = [Candidate(arm=_name(point), seed=config.train.seeds[0], adapter=f"sweep/{_name(point)}/adapter") for point in finished]
    if config.train.lora is None:
        models = [replace(model, adapter=None, weights=f"sweep/{model.arm}/weights") for model in models]
    outcomes, _, info = evaluate_models(config, run, models, prompts.split("held_out").templates, examples_of(run, "test"))
    run.write_table("sweep/outcomes.parquet", outcomes)
    trials = [Trial(**point, outcomes=outcomes.filter(pc.equal(outcomes["arm"], _name(point)))) for point in finished]
    written = write_sweep(run, trials, config=config.report, seed=config.seed, engine_starts=info["engine_starts"])
    _show(written)
    return {**written, "failed": [_name(point) for point in points if point not in finished]}


def train_points(config: Config, run: Run, points: list[Point], trial: Callable[[dict[str, Any]], None]) -> list[Point]:
    """The points whose `trial` finished; one that fails is told and does not end the others. Raises `StageError` where all failed."""
    nodes = len([node for node in ray.nodes() if node["Alive"]])
    tuner = tune.Tuner(
        tune.with_resources(trial, {"CPU": 0.1}),
        param_space={"point": tune.grid_search(points)},
        tune_config=tune.TuneConfig(max_concurrent_trials=config.sweep.max_concurrent or concurrency(config.train, ray.cluster_resources(), nodes)),
        run_config=tune.RunConfig(name="tune", storage_path=run.uri("sweep"), verbose=0),
    )
    results = list(tuner.fit())
    for error in (result.error for result in results if result.error is not None):
        print(f"sweep: a trial failed: {' '.join(str(error).split())[-300:]}", flush=True)
    finished = [result.config["point"] for result in results if result.error is None and result.config is not None]
    if not finished:
        raise StageError("every trial failed; the first reason stands above")
    return finished


def _show(written: Manifest) -> None:
    table = Table("templates", "subset", "mean", "std", "worst", title="held-out accuracy by size of the prompt set")
    for row in written["sizes"]:
        std = "–" if row["std"] is None else f"{row['std']:.1%}"
        worst = "–" if row["worst"] is None else f"{row['worst']:.1%}"
        table.add_row(str(row["size"]), str(row["seed"]), f"{row['mean']:.1%}", std, worst)
    Console().print(table)


def _trial(config: dict[str, Any], settings: Config, root: str, model_path: str) -> None:
    """A Tune function that fits one Ray Train run."""
    from paft_ray.training.trainer import fit

    point = config["point"]
    run = Run(root)
    folder = f"sweep/{_name(point)}"
    train = PromptSet.from_table(run.read_table("prompts/prompt_set.parquet")).split("train")
    result = fit(
        task=load_task(settings.task),
        data=run.read_table("data/train.parquet"),
        templates=train.take(point["size"], point["subset_seed"]),
        config=settings.train,
        model=settings.model,
        model_path=model_path,
        seed=settings.train.seeds[0],
        run=run,
        folder=folder,
        tracking=settings.tracking,
    )
    tune.report({"loss": result.final_loss, "tokens_per_s": result.tokens_per_s})


def _name(point: Point) -> str:
    return f"size{point['size']}-subset{point['subset_seed']}"


def concurrency(train: TrainConfig, have: Mapping[str, float], num_nodes: int) -> int:
    """Trials whose workers fit side by side (Tune does not count them), with a CPU left for Ray Data per trial; on CPUs one per node, which it fills."""
    by_cpu = int(have.get("CPU", 1) // (train.num_workers * train.cpus_per_worker + 1))
    by_device = int(have.get("GPU", 0) // (train.num_workers * train.gpus_per_worker)) if train.gpus_per_worker else num_nodes
    return max(1, min(by_cpu, by_device))
