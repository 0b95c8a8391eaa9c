"""Stage `train`: one training per arm and seed; same examples, order, steps, rate and seed, only the prompt set differs."""

from __future__ import annotations

from typing import Any

from paft_ray.artifacts import Manifest, Run, cached
from paft_ray.config import Config, TrainedArm, weights_key
from paft_ray.models import model_key, resolve_model
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.stages.score import best_first
from paft_ray.tasks.task import load_task


def run(config: Config, run: Run, *, force: bool = False) -> Manifest:
    """Writes train/<arm>-s<seed>/ with adapter, metrics and checkpoints; finished arms are kept when the stage is killed."""
    path = resolve_model(config.model.id, config.model.revision)
    key = {
        "train": weights_key(config.train),
        "task": load_task(config.task).model_dump(mode="json"),
        "model": model_key(config.model, path),
        "data": run.content_hash("data/train.parquet"),
    }
    if config.train.export != "last":
        key["validation"] = run.content_hash("data/validation.parquet")
    sets = {arm: arm_prompts(config, run, arm) for arm in config.train.arms}
    hashes = {arm: prompts.content_hash for arm, prompts in sets.items()}

    def body() -> Manifest:
        models = [
            _arm(config, run, arm, seed, prompts, path, {**key, "prompts": hashes[arm]}, force) for seed in config.train.seeds for arm, prompts in sets.items()
        ]
        return {"models": models, "peak_memory_gib": max(m["peak_memory_gib"] for m in models)}

    return cached(run, "train", {**key, "prompts": hashes, "seeds": list(config.train.seeds)}, body, force=force)


def arm_prompts(config: Config, run: Run, arm: TrainedArm) -> PromptSet:
    """The training templates of an arm: one fixed beforehand, the best scored, or all (the best `score.select_top`)."""
    prompts = PromptSet.from_table(run.read_table("prompts/prompt_set.parquet")).split("train")
    if arm == "sft":
        return prompts.only([run.read_json("prompts/manifest.json")["sft_template"]])
    if arm == "top_accuracy":
        return prompts.only([run.read_json("score/manifest.json")["best"]])
    if config.score.enabled and config.score.select_top:
        scores = run.read_table("score/scores.parquet").to_pylist()
        return prompts.only(row["template_id"] for row in best_first(scores)[: config.score.select_top])
    return prompts


def _arm(config: Config, run: Run, arm: str, seed: int, prompts: PromptSet, path: str, key: dict[str, Any], force: bool) -> dict[str, Any]:
    from paft_ray.training.trainer import fit

    folder = f"train/{arm}-s{seed}"
    if force:
        run.delete(folder)

    def body() -> Manifest:
        result = fit(
            task=load_task(config.task),
            data=run.read_table("data/train.parquet"),
            templates=prompts,
            config=config.train,
            model=config.model,
            model_path=path,
            seed=seed,
            run=run,
            folder=folder,
            validation=run.read_table("data/validation.parquet") if config.train.validate_every or config.train.export != "last" else None,
            tracking=config.tracking,
        )
        return {
            "arm": arm,
            "seed": seed,
            "adapter": result.export if result.kind == "adapter" else None,
            "weights": result.export if result.kind == "weights" else None,
            "sha256": result.sha256,
            "num_templates": len(prompts),
            "num_steps": result.num_steps,
            "exported_step": result.exported_step,
            "final_loss": result.final_loss,
            "tokens_per_s": result.tokens_per_s,
            "train_time_s": result.time_s,
            "peak_memory_gib": result.peak_memory_gib,
            "cut_rows": result.cut_rows,
            "nodes": result.nodes,
        }

    return cached(run, folder, {**key, "seed": seed}, body)
