"""Whether a run still is what its stages wrote."""

from __future__ import annotations

from paft_ray.errors import UserError
from paft_ray.storage.artifacts import stage_manifest
from paft_ray.storage.manifests import STAGE_MANIFESTS, SWEEP, TRAIN, trained_models
from paft_ray.storage.outputs import check_files, manifest_path
from paft_ray.storage.stage_cache import finished_below
from paft_ray.storage.store import Store

_MOST_SHOWN = 5


def check_intact(run: Store) -> None:
    """Raises `UserError` that names what is broken in the finished stages, trainings and trials: manifests that are
    none, and the first output of each that is missing or not what was written."""
    faults = list(dict.fromkeys(filter(None, (_fault(run, folder) for folder in _folders(run)))))
    if faults:
        more = f"; and {len(faults) - _MOST_SHOWN} more" if len(faults) > _MOST_SHOWN else ""
        raise UserError(f"run {run.root}: {'; '.join(faults[:_MOST_SHOWN])}{more}")


def _folders(run: Store) -> list[str]:
    """Folders that a manifest may be in, trainings and trials before the stages that they are parts of."""
    trials = [f"{SWEEP}/{name}" for name in finished_below(run, SWEEP)]
    parts = [f"{TRAIN}/{name}" for name in finished_below(run, TRAIN)]
    return [*parts, *trials, *(f"{trial}/evaluate" for trial in trials), *STAGE_MANIFESTS, SWEEP]


def _fault(run: Store, folder: str) -> str | None:
    """What is broken of a stage; None where it is not finished."""
    if not run.exists(manifest_path(folder)):
        return None
    try:
        check_files(run, folder, stage_manifest(run, folder)["outputs"])
        if folder == TRAIN:
            trained_models(run)
    except UserError as error:
        return str(error).removeprefix(f"run {run.root}: ")
    return None
