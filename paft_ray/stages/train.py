"""Stage `train`: one training per arm and seed, all in one group of workers (ZeRO-3: a group each).

Same examples, order, steps, rate and seed; only the prompt set differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from paft_ray.config import Config, Over, TrainedArm, weights_key
from paft_ray.log import get_logger, stage_label
from paft_ray.prompts.grouping import groups, groups_key
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.stages.score import best_first
from paft_ray.storage.artifacts import PROMPT_SET, ROWS, SCORE_TABLE, metrics_path, training_result
from paft_ray.storage.manifests import SCORE, SYNTHESIZE, TRAIN, ModelKey, ScoreManifest, SynthesizeManifest
from paft_ray.storage.outputs import digests, read_manifest
from paft_ray.storage.stage_cache import Manifest, cached, finish, kept
from paft_ray.storage.store import Store
from paft_ray.storage.versions import decided_by
from paft_ray.training.job import Training
from paft_ray.training.result import TrainResult

_log = get_logger(__name__)
RESULTS_VERSION = 1
"""Raised where a change of the code changes results (`scripts/results_versions.py`)."""


def run(resolved: ResolvedRun, *, force: bool = False) -> Manifest:
    """Writes train/<arm>-s<seed>/ with adapter, metrics and checkpoints; a killed stage resumes with the arm at
    hand."""
    resolved = resolved.with_sampling()
    config, run = resolved.config, resolved.store
    key = _shared_key(resolved)
    prompts = PROMPT_SET.read(run)
    sets: dict[str, PromptSet] = {arm: arm_prompts(config, run, arm, prompts) for arm in config.train.arms}
    hashes = {arm: templates.content_hash for arm, templates in sets.items()}
    grouped = {arm: groups_key(templates, config.train.sampling.over) for arm, templates in sets.items()}
    arms = {f"{TRAIN}/{key}": key for seed in config.train.seeds for arm in sets for key in [ModelKey(arm, seed)]}
    keys = {
        folder: {**key, "prompts": hashes[model.arm], "seed": model.seed, **grouped[model.arm]}
        for folder, model in arms.items()
    }

    def body() -> Manifest:
        for folder in arms if force else ():
            run.delete(folder)
        known = {folder: _kept(run, folder, keys[folder], resolved.accept) for folder in arms}
        models = {folder: manifest for folder, manifest in known.items() if manifest is not None}
        missing = {folder: model for folder, model in arms.items() if folder not in models}
        for folder, result in _fit(resolved, missing, sets).items():
            found = _manifest(run, arms[folder], len(sets[arms[folder].arm]), folder, result)
            models[folder] = finish(run, folder, keys[folder], found, time_s=0, announce=lambda _: None)
        return {
            "models": [models[folder] for folder in arms],
            "outputs": {path: sha for folder in arms for path, sha in models[folder]["outputs"].items()},
            "peak_memory_gib": max(m["peak_memory_gib"] for m in models.values()),
        }

    drawn = {arm: each["draw_groups"] for arm, each in grouped.items() if each}
    whole = {**key, "prompts": hashes, "seeds": list(config.train.seeds), **({"draw_groups": drawn} if drawn else {})}
    return cached(run, TRAIN, whole, body, force=force, accept=resolved.accept)


def _shared_key(resolved: ResolvedRun) -> dict[str, Any]:
    """What decides the weights of every arm and seed alike."""
    config, run = resolved.config, resolved.store
    key = {
        **decided_by("train", RESULTS_VERSION),
        "train": weights_key(config.train),
        "task": resolved.task_key,
        "model": resolved.model_key,
        "data": ROWS["train"].key(run),
    }
    return key if config.train.export == "last" else {**key, "validation": ROWS["validation"].key(run)}


def _fit(
    resolved: ResolvedRun, missing: Mapping[str, ModelKey], sets: Mapping[str, PromptSet]
) -> dict[str, TrainResult]:
    """Result of each training that is missing, by its folder."""
    if not missing:
        return {}
    from paft_ray.training.launch import fit

    config, run = resolved.config, resolved.store
    _announce(config.train.sampling.over, sets)
    validates = config.train.validate_every or config.train.export != "last"
    rows, validation = ROWS["train"].read(run), ROWS["validation"].read(run) if validates else None
    trainings = [
        Training(
            task=resolved.task,
            config=config.train,
            model=config.model,
            model_files=resolved.model,
            run=run,
            data=rows,
            validation=validation,
            tracking=config.tracking,
            templates=sets[model.arm],
            seed=model.seed,
            folder=folder,
            results_version=RESULTS_VERSION,
        )
        for folder, model in missing.items()
    ]
    return dict(zip(missing, fit(trainings), strict=True))


def _announce(over: Over | None, sets: Mapping[str, PromptSet]) -> None:
    """Says what is drawn first, where that is no template."""
    for arm, prompts in sets.items() if over in ("cluster", "source") else ():
        if len(prompts) > 1:
            drawn = f"one of {len(groups(prompts, over))} {over}s first, then one of its templates"
            _log.info(f"{stage_label(TRAIN)} {arm} draws {drawn}, {len(prompts)} in all (train.sampling.over)")


def _kept(run: Store, folder: str, key: Mapping[str, Any], accept: Sequence[str]) -> Manifest | None:
    """The manifest of a training that is finished and intact."""
    return kept(run, folder, key, accept=accept, on_damage=partial(clear_damaged, run, folder))


def clear_damaged(run: Store, folder: str, path: str) -> None:
    """Prepares a training with a damaged output for being made again: weights are exported again from the last
    checkpoint, everything else needs a training from the start."""
    if path.removeprefix(f"{folder}/").split("/")[0] not in ("adapter", "weights"):
        run.delete(folder)


def training_outputs(run: Store, folder: str, result: TrainResult) -> dict[str, str]:
    """Path -> SHA-256 of what a training leaves for other stages: its weights as they were written, its metrics, and
    its result."""
    weights = {f"{result.path}/{name}": wanted for name, wanted in result.files.items()}
    return weights | digests(run, [metrics_path(folder), training_result(folder).path])


def _manifest(run: Store, model: ModelKey, num_templates: int, folder: str, result: TrainResult) -> Manifest:
    return {
        "arm": model.arm,
        "seed": model.seed,
        "kind": result.kind,
        "path": result.path,
        "sha256": result.sha256,
        "files": result.files,
        "outputs": training_outputs(run, folder, result),
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


def arm_prompts(config: Config, run: Store, arm: TrainedArm, found: PromptSet) -> PromptSet:
    """The training templates of an arm: one fixed beforehand, the best scored, or all (the best `score.select_top`).
    `found`: the prompt set of the run."""
    prompts = found.split("train")
    if arm == "sft":
        return prompts.only(filter(None, [read_manifest(run, SYNTHESIZE, SynthesizeManifest).sft_template]))
    if arm == "top_accuracy":
        return prompts.only([read_manifest(run, SCORE, ScoreManifest).best])
    if config.score.enabled and config.score.select_top:
        scores = SCORE_TABLE.read(run).to_pylist()
        return prompts.only(row["template_id"] for row in best_first(scores)[: config.score.select_top])
    return prompts
