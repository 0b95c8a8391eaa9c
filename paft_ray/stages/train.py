"""Stage `train`: one training per arm and seed, all in one group of workers (ZeRO-3: a group each).

Same examples, order, steps, rate and seed; only the prompt set differs.
"""

from __future__ import annotations

from functools import partial

from paft_ray.config import Config, TrainedArm, weights_key
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.stages.score import best_first
from paft_ray.storage.parquet import holds
from paft_ray.storage.schemas import SCORES
from paft_ray.storage.stage_cache import Manifest, cached
from paft_ray.storage.store import Store
from paft_ray.storage.versions import decided_by
from paft_ray.tasks.readers import holds_examples
from paft_ray.training.job import Training
from paft_ray.training.result import TrainResult

RESULTS_VERSION = 1
"""Raised where a change of the code changes results (`scripts/results_versions.py`)."""


def run(resolved: ResolvedRun, *, force: bool = False) -> Manifest:
    """Writes train/<arm>-s<seed>/ with adapter, metrics and checkpoints; a killed stage resumes with the arm at
    hand."""
    config, run = resolved.config, resolved.store
    key = {
        **decided_by("train", RESULTS_VERSION),
        "train": weights_key(config.train),
        "task": resolved.task_key,
        "model": resolved.model_key,
        "data": run.content_hash("data/train.parquet"),
    }
    if config.train.export != "last":
        key["validation"] = run.content_hash("data/validation.parquet")
    sets = {arm: arm_prompts(config, run, arm) for arm in config.train.arms}
    hashes = {arm: prompts.content_hash for arm, prompts in sets.items()}
    arms = {f"train/{arm}-s{seed}": (arm, seed) for seed in config.train.seeds for arm in sets}
    keys = {folder: {**key, "prompts": hashes[arm], "seed": seed} for folder, (arm, seed) in arms.items()}

    def body() -> Manifest:
        from paft_ray.training.launch import fit

        for folder in arms if force else ():
            run.delete(folder)
        models = {
            folder: cached(run, folder, keys[folder], dict, accept=resolved.accept)
            for folder in arms
            if run.exists(f"{folder}/manifest.json")
        }
        missing = {folder: arm_seed for folder, arm_seed in arms.items() if folder not in models}
        validates = config.train.validate_every or config.train.export != "last"
        shared = {
            "task": resolved.task,
            "config": config.train,
            "model": config.model,
            "model_files": resolved.model,
            "run": run,
            "data": run.read_table("data/train.parquet", holds_examples),
            "validation": run.read_table("data/validation.parquet", holds_examples) if validates else None,
            "tracking": config.tracking,
        }
        results = (
            fit(
                [
                    Training(**shared, templates=sets[arm], seed=seed, folder=folder, results_version=RESULTS_VERSION)
                    for folder, (arm, seed) in missing.items()
                ]
            )
            if missing
            else []
        )
        for (folder, (arm, seed)), result in zip(missing.items(), results, strict=True):
            trained = partial(_manifest, arm, seed, len(sets[arm]), result)
            models[folder] = cached(run, folder, keys[folder], trained, announce=lambda _: None)
        return {
            "models": [models[folder] for folder in arms],
            "peak_memory_gib": max(m["peak_memory_gib"] for m in models.values()),
        }

    return cached(
        run,
        "train",
        {**key, "prompts": hashes, "seeds": list(config.train.seeds)},
        body,
        force=force,
        accept=resolved.accept,
    )


def _manifest(arm: str, seed: int, num_templates: int, result: TrainResult) -> Manifest:
    return {
        "arm": arm,
        "seed": seed,
        "adapter": result.export if result.kind == "adapter" else None,
        "weights": result.export if result.kind == "weights" else None,
        "sha256": result.sha256,
        "num_templates": num_templates,
        "num_steps": result.num_steps,
        "exported_step": result.exported_step,
        "final_loss": result.final_loss,
        "tokens_per_s": result.tokens_per_s,
        "train_time_s": result.time_s,
        "peak_memory_gib": result.peak_memory_gib,
        "truncated_rows": result.truncated_rows,
        "nodes": result.nodes,
    }


def arm_prompts(config: Config, run: Store, arm: TrainedArm) -> PromptSet:
    """The training templates of an arm: one fixed beforehand, the best scored, or all (the best `score.select_top`)."""
    prompts = PromptSet.from_table(run.read_table("prompts/prompt_set.parquet")).split("train")
    if arm == "sft":
        return prompts.only([run.read_json("prompts/manifest.json")["sft_template"]])
    if arm == "top_accuracy":
        return prompts.only([run.read_json("score/manifest.json")["best"]])
    if config.score.enabled and config.score.select_top:
        scores = run.read_table("score/scores.parquet", holds(SCORES)).to_pylist()
        return prompts.only(row["template_id"] for row in best_first(scores)[: config.score.select_top])
    return prompts
