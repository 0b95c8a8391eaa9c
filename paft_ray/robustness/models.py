"""The models that a command names: a Hugging Face id, a folder, an adapter, an arm of a run, an endpoint."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from os.path import expanduser
from pathlib import Path

from paft_ray.config import Config, GeneratorConfig, ModelConfig
from paft_ray.errors import UserError, one_line
from paft_ray.files.regular import read_regular
from paft_ray.robustness.named_endpoint import endpoint_of
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.manifests import ModelKey, TrainedModel, trained_models
from paft_ray.storage.outputs import summed, write_files
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Task
from paft_ray.training.adapter_config import FILE as ADAPTER_CONFIG
from paft_ray.training.adapter_config import check_adapter_config
from paft_ray.training.trained_weights import ADAPTER_FILE, check_weights_folder

UNTRAINED = -1
"""Seed of a model that no run trained."""
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._+-]{0,39})=(.+)", re.DOTALL)
_CHAT = ":chat"
_LONGEST_NAME, _LONGEST = 40, 2000
_LARGEST_CONFIG = 2**20


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Weights that are put upon a base model."""

    store: Store
    """Where they are."""
    model: TrainedModel


@dataclass(frozen=True, kw_only=True)
class GivenModel:
    """One model of the comparison."""

    name: str
    """Arm in the results."""
    settings: ModelConfig
    """Of the base model, or of the model itself."""
    place: str
    """Absolute path of the base where it is a folder, else its id and revision."""
    trained: tuple[Trained, ...] = ()
    """The same arm by seed; none: the base itself."""
    adapter: str | None = None
    """Folder of an adapter that no run trained."""
    endpoint: GeneratorConfig | None = None
    """Where the model is asked; then `settings` and `place` are none of it."""
    run: Store | None = None
    """Whose arm it is."""

    @property
    def keys(self) -> tuple[ModelKey, ...]:
        """Its name with each seed."""
        return tuple(ModelKey(self.name, each.model.seed) for each in self.trained) or (ModelKey(self.name, UNTRAINED),)


def given_models(names: Sequence[str], *, base: str | None, chat: bool, config: Config, task: Task) -> list[GivenModel]:
    """The models in the order given: `[NAME=]MODEL[:chat]`, `[NAME=]RUN:ARM` or an endpoint. Neither a hub nor a
    cluster is reached.

    `base`: of adapters whose file does not name one that serves; `chat`: ask all but arms of runs through their chat
    template; `config`: its section `model` is for all but arms of runs; `task`: how long answers are. Raises
    `UserError` for an arm that a run lacks, an adapter without a base, an endpoint that may not be asked, and a name
    that comes twice.
    """
    found = [_given(name, base=base, chat=chat, config=config, task=task) for name in names]
    names_seen: set[str] = set()
    for model in found:
        if model.name in names_seen:
            raise UserError(f"model {model.name}: comes twice; give each a name of its own, such as first=MODEL")
        names_seen.add(model.name)
    pairs = Counter(f"{one.name}-{other.name}" for one, other in permutations(found, 2))
    if alike := next((pair for pair, number in pairs.items() if number > 1), None):
        raise UserError(f"models: two pairs of names read {alike}; give one of them another name, such as first=MODEL")
    return found


def split_name(text: str) -> tuple[str | None, str]:
    """(name, model) of `[NAME=]MODEL`, a home folder as its path."""
    named = _NAME.fullmatch(text)
    return (named[1], expanduser(named[2])) if named else (None, expanduser(text))


def _given(text: str, *, base: str | None, chat: bool, config: Config, task: Task) -> GivenModel:
    name, model = split_name(text)
    if not model.removesuffix(_CHAT).strip() or len(model) > _LONGEST:
        raise UserError(f"model {text[:60]!r}: give an id, a folder, RUN:ARM or an endpoint")
    if (endpoint := endpoint_of(model, config, task)) is not None:
        return GivenModel(name=name or _short(endpoint.id), settings=ModelConfig(), place="", endpoint=endpoint)
    if (arm := _arm_of_run(model)) is not None:
        return replace(arm, name=name) if name else arm
    settings = config.model
    asks_chat = chat or model.endswith(_CHAT)
    model = model.removesuffix(_CHAT)
    shown = name or _short(model) + ("-chat" if asks_chat and not chat else "")
    if _is_folder(model) and (Path(model) / ADAPTER_CONFIG).is_file():
        return _adapter(shown, Path(model).resolve(), base, _settings(settings, asks_chat))
    given = _pinned(model)
    return GivenModel(name=shown, settings=_settings(settings, asks_chat, given), place=_place(model))


def _pinned(model: str) -> dict[str, str | None]:
    """Id and revision of `ID@REVISION`."""
    identity, _, revision = (model, "", "") if _is_folder(model) else model.partition("@")
    return {"id": identity, "revision": revision or None}


def _settings(settings: ModelConfig, chat: bool, change: dict[str, str | None] | None = None) -> ModelConfig:
    values = {**settings.model_dump(), **(change or {}), "chat": chat or settings.chat}
    return ModelConfig.model_validate(values)


def _place(identity: str) -> str:
    return str(Path(identity).resolve()) if _is_folder(identity) else identity


def _is_folder(identity: str) -> bool:
    """The name `demo` is the model that ships, whatever lies in the working folder."""
    return identity != "demo" and Path(identity).is_dir()


def _short(model: str) -> str:
    """The last part of a path or id, as an arm may be called."""
    last = re.sub(r"[^A-Za-z0-9._+-]+", "-", model.partition("@")[0].rstrip("/").rpartition("/")[2]).strip("-.")
    return last[:_LONGEST_NAME] or "model"


def _arm_of_run(text: str) -> GivenModel | None:
    """The arm that `RUN:ARM` names; None where RUN is no run. Raises `UserError` where it lacks the arm."""
    place, _, arm = text.rpartition(":")
    if not place or "/" in arm or not ("://" in place or (Path(place) / "config.json").is_file()):
        return None
    run = Store(place)
    if not run.exists("task.json"):
        return None
    models = trained_models(run)
    known = list(dict.fromkeys(["base", *(model.arm for model in models)]))
    if arm not in known:
        raise UserError(f"{text}: run {run.name} has no arm {one_line(arm)[:40]}; its arms are {', '.join(known)}")
    resolved = ResolvedRun.load(run).as_trained(models[0].settings)
    return GivenModel(
        name=f"{run.name}-{arm}",
        settings=resolved.config.model,
        place=resolved.place(resolved.config.model.id),
        trained=tuple(Trained(store=run, model=model) for model in models if model.arm == arm),
        run=run,
    )


def _adapter(name: str, folder: Path, base: str | None, settings: ModelConfig) -> GivenModel:
    """An adapter with its base model."""
    said = check_adapter_config(read_regular(folder / ADAPTER_CONFIG, largest=_LARGEST_CONFIG), f"adapter {folder}")
    identity = base or said.base_model_name_or_path
    if not identity:
        raise UserError(f"adapter {folder}: {ADAPTER_CONFIG} names no base model; give it with --base MODEL")
    if base is None and identity.startswith(("/", ".")) and not Path(identity).is_dir():
        raise UserError(
            f"adapter {folder}: its base model {one_line(identity)[:200]} is no folder of this machine; give --base "
            "MODEL"
        )
    change = _pinned(base) if base else {"id": identity, "revision": said.revision}
    return GivenModel(
        name=name,
        settings=_settings(settings, settings.chat, change),
        place=_place(identity),
        adapter=str(folder),
    )


def keep_adapter(model: GivenModel, target: Store, *, base: str) -> GivenModel:
    """The same model, its adapter copied into the results, where every node finds it. Raises `UserError` where its
    files are no complete adapter of the model folder `base`."""
    assert model.adapter is not None
    folder = Path(model.adapter)
    check_weights_folder(folder, f"adapter {folder}", base=base, is_adapter=True)
    path = f"adapters/{model.name}"
    names = (ADAPTER_CONFIG, ADAPTER_FILE)
    written = write_files(target, {f"{path}/{name}": (folder / name).read_bytes() for name in names})
    files = {name: written[f"{path}/{name}"] for name in names}
    key = ModelKey(model.name, UNTRAINED)
    trained = TrainedModel(
        key=key, kind="adapter", path=path, sha256=summed(files), files=files, num_templates=1, num_steps=1
    )
    return replace(model, trained=(Trained(store=target, model=trained),))


def shown(model: GivenModel) -> str:
    """What a model is, in words."""
    if model.endpoint is not None:
        return f"endpoint {model.endpoint.label}"
    what = ""
    if model.adapter is not None:
        what = f"adapter {Path(model.adapter).name} of "
    elif model.trained:
        what = f"arm {model.trained[0].model.arm} of run {model.trained[0].store.name}, base "
    return f"{what}{model.settings.id}" + (", asked through its chat template" if model.settings.chat else "")
