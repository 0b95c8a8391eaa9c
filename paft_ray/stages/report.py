"""Stage `report`: results.json, report.md, report.html and the model cards from the artifacts of the other stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paft_ray.config import configured_model, input_key, weights_key
from paft_ray.errors import UserError
from paft_ray.models.resolve import hub_id, model_license
from paft_ray.report.inputs import Measured, check_current
from paft_ray.report.model_card import Origins, write_cards
from paft_ray.report.render import write_report
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.artifacts import OUTCOMES, PROMPT_SET, stage_manifest
from paft_ray.storage.manifests import REPORT, TRAIN
from paft_ray.storage.outputs import manifest_path
from paft_ray.storage.stage_cache import Manifest, as_stored, cached
from paft_ray.storage.stage_keys import compare_keys, left_over
from paft_ray.storage.versions import decided_by
from paft_ray.tracking.trackers import publish_report

RESULTS_VERSION = 10
"""Raised where a change of the code changes results (`scripts/results_versions.py`)."""
_INPUTS = (OUTCOMES, PROMPT_SET)


def run(resolved: ResolvedRun, *, stages: Sequence[str], force: bool = False) -> Manifest:
    """The manifest: `verdict`. `stages`: names of the others, in their order. Raises `UserError` where the run as
    it is now has not been evaluated."""
    if resolved.store.exists(manifest_path(TRAIN)):
        resolved = resolved.with_sampling()
        _check_trained(resolved)
    config, run = resolved.config, resolved.store
    check_current(run)
    key = {
        **decided_by("report", RESULTS_VERSION),
        "report": config.report.model_dump(mode="json"),
        "calibration": config.evaluate.calibration,
        "seed": config.seed,
        "inputs": {each.path: each.key(run) for each in _INPUTS},
    }

    def body() -> Manifest:
        labels = resolved.task.label_texts if config.evaluate.calibration else ()
        measured = Measured.of(run, labels)
        written = write_report(run, config=config, stages=stages, measured=measured)
        cards = write_cards(run, config, origins(resolved), measured) if run.exists(manifest_path(TRAIN)) else {}
        return {"verdict": written.values["verdict"], "outputs": written.files | cards}

    manifest = cached(run, REPORT, key, body, force=force, accept=resolved.accept)
    publish_report(config.tracking, run)
    return manifest


def _check_trained(resolved: ResolvedRun) -> None:
    """The page shows the configuration, so it must be the one of the arms. Raises `UserError` naming what differs."""
    config, run = resolved.config, resolved.store
    manifest = stage_manifest(run, TRAIN)
    key = manifest["key"]
    wanted = {
        "train": weights_key(config.train),
        "model": input_key(config.model),
        "task": resolved.task_key,
    }
    found = compare_keys(
        {"train": key["train"], "model": configured_model(key["model"]), "task": key["task"]},
        as_stored(wanted),
    )
    if differing := left_over(found, manifest, resolved.accept):
        raise UserError(
            f"run {run.name} was trained with other settings ({'; '.join(map(str, differing))}); give the "
            "configuration that it was trained with"
        )


def origins(resolved: ResolvedRun) -> Origins:
    """Where base model, data and the generators of the training templates come from. A license is known where this
    machine holds what states it; files of the user's own have none."""
    config, task, run = resolved.config, resolved.task, resolved.store
    own = {name for name in ("train", "validation", "test") if getattr(config.data, name)}
    sources = {name: source for name, source in task.sources.items() if name not in own}
    prompts = PROMPT_SET.read(run).split("train").entries if run.exists(PROMPT_SET.path) else ()
    wrote = {entry.source for entry in prompts}
    tested = sources.get("test" if "test" in own or "test" in task.sources else "train")
    return Origins(
        base_id=hub_id(resolved.place(config.model.id)),
        base_license=model_license(resolved.place(config.model.id), config.model.revision),
        data_license=None if "train" in own else task.license,
        datasets=tuple(dict.fromkeys(source.dataset for source in sources.values() if source.dataset)),
        generators={
            hub_id(resolved.place(g.id)) or Path(g.id).name: model_license(resolved.place(g.id), g.revision)
            for g in config.prompts.generators
            if g.type != "grammar" and g.label in wrote
        },
        test_dataset=tested.dataset if tested else None,
        test_split=tested.split if tested and "test" in sources else None,
    )
