"""`paft sweep`: Ray Tune over the size of the prompt set; nested subsets, equal optimizer steps, the same global order in every trial."""

from __future__ import annotations

from typing import Any

import ray
from ray import tune

from paft_ray.artifacts import Manifest, Run
from paft_ray.config import Config
from paft_ray.errors import StageError, UserError
from paft_ray.models import resolve_model
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.report.sweep import Trial, write_sweep
from paft_ray.stages import prepare, synthesize
from paft_ray.stages.evaluate import Candidate, evaluate_models
from paft_ray.stages.prepare import examples_of
from paft_ray.tasks.task import load_task


def run(config: Config, run: Run, *, force: bool = False) -> Manifest:
    """Trains one model per size and subset seed, evaluates all in one stage, writes report/sweep.json, sweep.md and the curve."""
    prepare.run(config, run, force=force)
    synthesize.run(config, run, force=force)
    prompts = PromptSet.from_table(run.read_table("prompts/prompt_set.parquet"))
    train = prompts.split("train")
    if too_large := [size for size in config.sweep.sizes if size > len(train)]:
        raise UserError(f"sweep.sizes: {too_large} asked for, the training set holds {len(train)} templates; lower the sizes or add templates")
    points = [{"size": size, "subset_seed": seed} for size in config.sweep.sizes for seed in config.sweep.subset_seeds]
    path = resolve_model(config.model.id, config.model.revision)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, settings=config, root=run.root, model_path=path), {"CPU": 0.1}),
        param_space={"point": tune.grid_search(points)},
        tune_config=tune.TuneConfig(max_concurrent_trials=config.sweep.max_concurrent or _concurrency(config)),
        run_config=tune.RunConfig(name="tune", storage_path=run.uri("sweep"), verbose=0),
    )
    results = tuner.fit()
    for error in results.errors:
        print(f"sweep: a trial failed: {' '.join(str(error).split())[-300:]}", flush=True)
    finished = [result.config["point"] for result in results if result.error is None]
    if not finished:
        raise StageError("sweep: every trial failed")
    models = [Candidate(arm=_name(point), seed=config.train.seeds[0], adapter=f"sweep/{_name(point)}/adapter") for point in finished]
    outcomes, _, info = evaluate_models(config, run, models, prompts.split("held_out").templates, examples_of(run, "test"))
    run.write_table("sweep/outcomes.parquet", outcomes)
    frame = outcomes.to_pandas()
    trials = [
        Trial(size=point["size"], subset_seed=point["subset_seed"], outcomes=outcomes.filter((frame["arm"] == _name(point)).to_numpy())) for point in finished
    ]
    written = write_sweep(run, trials, config=config.report, seed=config.seed, engine_starts=info["engine_starts"])
    for row in written["sizes"]:
        print(f"sweep: size {row['size']} (subset {row['seed']}): mean {row['mean']:.1%}", flush=True)
    return written


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
    )
    tune.report({"loss": result.final_loss, "tokens_per_s": result.tokens_per_s})


def _name(point: dict[str, int]) -> str:
    return f"size{point['size']}-subset{point['subset_seed']}"


def _concurrency(config: Config) -> int:
    """Trials whose workers fit side by side (Tune does not count them), with a CPU left for Ray Data per trial."""
    have = ray.cluster_resources()
    train = config.train
    by_cpu = int(have.get("CPU", 1) // (train.num_workers * train.cpus_per_worker + 1))
    by_gpu = int(have.get("GPU", 0) // (train.num_workers * train.gpus_per_worker)) if train.gpus_per_worker else by_cpu
    nodes = len([node for node in ray.nodes() if node["Alive"]])
    return max(1, min(by_cpu, by_gpu, nodes if not train.gpus_per_worker else by_gpu))
