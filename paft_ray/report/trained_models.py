"""The trained models of a run as its train/manifest.json tells them. A run may be someone else's: what is read is held
to its type and range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paft_ray.config import Config, Positive, Seed, TrainedArm
from paft_ray.errors import UserError
from paft_ray.storage.store import LARGEST_JSON, Store
from paft_ray.training import adapter_config

MANIFEST = "train/manifest.json"
_Name = Annotated[str, Field(min_length=1, max_length=4096)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, protected_namespaces=(), allow_inf_nan=False)


class _Entry(_Part):
    arm: TrainedArm
    seed: Seed
    adapter: _Name | None = None
    weights: _Name | None = None
    num_templates: Positive
    num_steps: Positive
    sha256: str | None = None


class _Model(_Part):
    id: _Name
    max_prompt_tokens: Positive
    identity: dict[str, Any]


class _Task(_Part):
    name: str
    description: str
    kind: str
    labels: dict[str, str]
    max_answer_tokens: Positive


class _Key(_Part):
    train: dict[str, Any]
    model: _Model
    task: _Task
    prompts: dict[str, str]
    versions: dict[str, str]


class _Manifest(_Part):
    key: _Key
    models: Annotated[tuple[_Entry, ...], Field(min_length=1, strict=False)]


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """One arm and seed of a run, as its manifests tell it."""

    run: str
    arm: str
    seed: int
    folder: str
    """Its adapter or full weights, relative to the run."""
    is_adapter: bool
    num_templates: int
    num_steps: int
    key: Mapping[str, Any]
    """What decided the weights: `train`, `model` and `task` settings, `versions`."""

    @property
    def name(self) -> str:
        """Unique among the models of a storage, and the name under which it is served."""
        return f"{self.run}-{self.arm}-s{self.seed}"


def trained_models(run: Store) -> list[TrainedModel]:
    """Every trained model of a run, in the order of training.

    Raises `UserError` where stage train is not finished or did not say what it trained, and for a path that leads out
    of the run.
    """
    if not run.exists(MANIFEST):
        raise UserError(
            f"run {run.root}: {MANIFEST} is missing; give the folder of a run whose stage train is finished"
        )
    manifest = run.read_json(MANIFEST)
    try:
        entries = _Manifest.model_validate(manifest).models
    except ValidationError as error:
        at = ".".join(map(str, error.errors()[0]["loc"])) or "it"
        reason = f"does not say what was trained ({at}: {error.errors()[0]['msg']})"
        raise UserError(f"run {run.root}: {MANIFEST} {reason}; run stage train again") from None
    return [
        TrainedModel(
            run=run.name,
            arm=entry.arm,
            seed=entry.seed,
            folder=_folder(run, entry),
            is_adapter=entry.adapter is not None,
            num_templates=entry.num_templates,
            num_steps=entry.num_steps,
            key={name: manifest["key"][name] for name in ("train", "model", "task", "prompts", "versions")},
        )
        for entry in entries
    ]


def _folder(run: Store, entry: _Entry) -> str:
    folder = entry.adapter or entry.weights
    if folder is None:
        raise UserError(f"run {run.root}: {MANIFEST} names no weights of arm {entry.arm}; run stage train again")
    return run.inside(folder)


def check_weights(run: Store, models: Sequence[TrainedModel]) -> None:
    """Raises `UserError` for links among the weights, and for an adapter whose configuration is missing, or says more
    than stage train writes."""
    for model in models:
        run.check_plain(model.folder)
        path = f"{model.folder}/{adapter_config.FILE}"
        if model.is_adapter and not run.exists(path):
            raise UserError(f"run {run.root}: {path} is missing; restore it, or train again")
        if model.is_adapter:
            adapter_config.check_adapter_config(run.read_bytes(path, largest=LARGEST_JSON), run.uri(path))


def longest_request(config: Config, model: TrainedModel) -> int:
    """Most tokens of a prompt with its answer."""
    return int(
        model.key["model"]["max_prompt_tokens"]
        + max(model.key["task"]["max_answer_tokens"], config.evaluate.max_answer_tokens)
    )
