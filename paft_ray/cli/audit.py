"""`paft audit RUN`: whether every stage is as it was written, and whether every training used each example once per
epoch, under the template that was drawn for it. Reads artifacts only: what the trained models used, against what
configuration, prompt set and data say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paft_ray.config import Config, Positive, SamplingConfig, Seed
from paft_ray.echo import echo, echo_table
from paft_ray.errors import UserError
from paft_ray.prompts.grouping import groups, groups_key
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.prompts.sampling import make_draw
from paft_ray.stages.resolved_run import stored_config
from paft_ray.stages.train import arm_prompts
from paft_ray.storage.artifacts import PROMPT_SET, ROWS, training_result
from paft_ray.storage.intact import check_intact
from paft_ray.storage.manifests import SWEEP, TRAIN, trained_models
from paft_ray.storage.outputs import manifest_path, read_raw_manifest
from paft_ray.storage.stage_cache import finished_below
from paft_ray.storage.store import Store
from paft_ray.sweep.trials import pool_and_validation
from paft_ray.training.audit import Findings, Training, check
from paft_ray.training.audit_log import audit_store, read_log
from paft_ray.training.data_order import plan

_ROWS_PER_LOGGED, _ROWS_AT_LEAST = 16, 1_000_000
"""A log may have lost most of its rows, but what a manifest says that was trained sizes arrays and takes time to
replay."""


class _Settings(BaseModel):
    """What a manifest says of section `train`: the part that decides which pairs are used."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    num_epochs: Annotated[float, Field(gt=0, le=1e6)] | None
    num_steps: Positive | None
    global_batch: Positive
    sampling: SamplingConfig
    seed: Seed


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """What a manifest says that a model was trained with."""

    settings: _Settings
    data: str
    """Hash of the training rows."""
    prompts: PromptSet
    prompts_hash: str
    """Of the templates that it was trained on."""
    groups: str | None
    """Likewise of the groups that were drawn first, None where templates were."""


def audit_run(folder: str) -> int:
    """Prints a table; 0 where every training's log agrees with the replay, else 1. Raises `UserError` as `audit`."""
    found = audit(Store(folder))
    columns = ("model", "steps", "rows", "epochs", "lost", "repeated", "differing")
    rows = [(name, f.steps, f.rows, f"{f.epochs:g}", f.lost, f.repeated, f.differing) for name, f in found.items()]
    wrong = [number for number, each in enumerate(found.values()) if not each.agrees]
    echo_table(columns, rows, title="pairs used in training, against the replay", red=wrong)
    for name, each in found.items():
        for line in each.reported:
            echo(f"{name}: {' '.join(line.split())}")
    return int(not all(each.agrees for each in found.values()))


def audit(run: Store) -> dict[str, Findings]:
    """Folder -> findings, for every finished training of the run, of stage train those that it names, and every
    finished trial of its sweep.

    Raises `UserError` where there is none, where a manifest or an output of any stage is broken, where no training
    left a log, and where configuration, prompt set or data are no longer those of a training.
    """
    arms = (
        [str(model.key) for model in trained_models(run)]
        if run.exists(manifest_path(TRAIN))
        else finished_below(run, TRAIN)
    )
    folders = [*(f"{TRAIN}/{name}" for name in arms), *(f"{SWEEP}/{name}" for name in finished_below(run, SWEEP))]
    if not folders or not run.exists("config.json"):
        raise UserError(
            f"run {run.root}: no finished training there; give the folder of a run in which paft trained a model "
            "to its end"
        )
    check_intact(run)
    logs = {
        folder: audit_store(run.below(folder), training_result(folder).read(run)["fingerprint"]) for folder in folders
    }
    if not any(log.exists("") for log in logs.values()):
        raise UserError(
            f"run {run.root}: its trainings left no audit log (an earlier version made them); train again under "
            "another name, or with --force"
        )
    config, rows = stored_config(run), ROWS["train"].read(run)["id"].to_pylist()
    return {folder: check(_training(run, config, rows, folder, log), read_log(log)) for folder, log in logs.items()}


def _training(run: Store, config: Config, examples: list[str], folder: str, log: Store) -> Training:
    manifest = read_raw_manifest(run, folder)
    try:
        inputs = (_of_arm if folder.startswith("train/") else _of_trial)(run, config, manifest)
    except ValidationError as error:
        fault = error.errors()[0]
        reason = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}, given {fault['input']!r:.60}"
        raise UserError(
            f"run {run.root}: {folder}/manifest.json does not say what was trained ({reason}); restore it, or "
            "train again"
        ) from None
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"run {run.root}: {folder}/manifest.json does not say what was trained; train again") from None
    if ROWS["train"].key(run) != inputs.data:
        raise UserError(
            f"run {run.root}: {ROWS['train'].path} is not what {folder} was trained on; restore it, or train again"
        )
    over = inputs.settings.sampling.over
    found = (inputs.prompts.content_hash, groups_key(inputs.prompts, over).get("draw_groups"))
    if found != (inputs.prompts_hash, inputs.groups):
        raise UserError(
            f"run {run.root}: its prompt set or configuration is not the one that {folder} was trained with; "
            "restore it, or train again"
        )
    settings = inputs.settings
    if not examples or (settings.num_epochs is None) == (settings.num_steps is None):
        raise UserError(
            f"run {run.root}: {folder}/manifest.json and {ROWS['train'].path} name no rows that were trained "
            "on; restore them, or train again"
        )
    steps, positions = plan(
        len(examples), epochs=settings.num_epochs, steps=settings.num_steps, global_batch=settings.global_batch
    )
    _check_length(f"run {run.root}: {folder}/manifest.json", steps * settings.global_batch, log)
    return Training(
        example_ids=examples,
        templates=[template.id for template in inputs.prompts.templates],
        draw=make_draw(settings.sampling, seed=settings.seed, groups=groups(inputs.prompts, over)),
        seed=settings.seed,
        global_batch=settings.global_batch,
        num_steps=steps,
        num_positions=positions,
    )


def _check_length(where: str, stated: int, log: Store) -> None:
    """Raises `UserError` where a manifest states far more rows than were logged."""
    logged = sum(table.num_rows for table in read_log(log))
    if stated > max(_ROWS_AT_LEAST, _ROWS_PER_LOGGED * logged):
        raise UserError(
            f"{where} says that {stated} rows were trained on, and its log holds {logged}; restore the manifest, "
            "or train again"
        )


def _of_arm(run: Store, config: Config, manifest: dict[str, Any]) -> _Inputs:
    key = manifest["key"]
    prompts = arm_prompts(config, run, manifest["arm"], PROMPT_SET.read(run))
    return _Inputs(
        settings=_Settings.model_validate({**key["train"], "seed": key["seed"]}, strict=True),
        data=key["data"],
        prompts=prompts,
        prompts_hash=key["prompts"],
        groups=key.get("draw_groups"),
    )


def _of_trial(run: Store, config: Config, manifest: dict[str, Any]) -> _Inputs:
    key = manifest["key"]
    shared, own = key["inputs"], key["settings"]
    pool, _ = pool_and_validation(config, PROMPT_SET.read(run))
    return _Inputs(
        settings=_Settings.model_validate(
            {**shared["train"], **own, **({"num_steps": None} if "num_epochs" in own else {}), "seed": shared["seed"]},
            strict=True,
        ),
        data=shared["data"]["train"],
        prompts=pool.take(manifest["num_templates"], manifest["subset_seed"]),
        prompts_hash=key["prompts"],
        groups=key.get("draw_groups"),
    )
