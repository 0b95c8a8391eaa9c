"""A run with everything that its configuration names found once: task, directory, model files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os.path import isabs, isdir
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from paft_ray.config import Config, GeneratorConfig, configured_model, input_key, parse_config
from paft_ray.config.plugins import split_pin
from paft_ray.errors import UserError, first_fault, one_line
from paft_ray.files.uris import split_uri
from paft_ray.models.chat_frame import chat_frame
from paft_ray.models.local import find_model
from paft_ray.models.reference import ModelFiles
from paft_ray.prompts.grouping import resolve_sampling
from paft_ray.storage.artifacts import PROMPT_SET, stage_manifest
from paft_ray.storage.manifests import EVALUATE, SCORE
from paft_ray.storage.outputs import manifest_path
from paft_ray.storage.stage_cache import as_stored
from paft_ray.storage.store import Store
from paft_ray.tasks.graders.plugins import read_plugin
from paft_ray.tasks.task import NoGraderError, Task, load_task

_OLD_FOLDERS = {"data": "prepare", "prompts": "synthesize"}
_CONFIG, _TASK, _FOLDERS = "config.json", "task.json", "model_folders.json"


@dataclass(frozen=True, kw_only=True)
class ResolvedRun:
    """What every stage takes. Picklable."""

    config: Config
    task: Task
    root: str
    """Absolute path or URI of the run's directory."""
    folders: Mapping[str, str]
    """Name of a model that is a local folder -> its absolute path."""
    models: tuple[ModelFiles, ...] = ()
    """The model that is trained, then the generators and the judge that run on the cluster, in their order; empty for a
    stage that reads none."""
    accept: tuple[str, ...] = ()
    """Entries of keys in which finished stages may differ and are kept (`--accept`)."""

    @classmethod
    def of(cls, config: Config, store: Store | None = None) -> ResolvedRun:
        """The run of a configuration, its models not found yet; neither a hub nor storage is reached, nothing is
        written. Plugins are read, not loaded. Raises `UserError` for a task or plugin that cannot be used.

        `store`: the run's directory; default: the one that the configuration names.
        """
        plugins = tuple(map(read_plugin, config.plugins))
        if plugins:
            config = config.model_copy(update={"plugins": tuple(plugin.pinned for plugin in plugins)})
        task = load_task(config.task).with_plugins(plugins)
        root = store.root if store else _root(config)
        return cls(config=config, task=task, root=root, folders=_model_folders(config))

    @classmethod
    def load(cls, store: Store) -> ResolvedRun:
        """The run in a directory from what it holds itself, its models not found yet: the configuration, task and row
        files that it was made from may be gone. A plugin that its configuration names is not read (`with_plugins`).

        Raises `UserError` where it holds no configuration or task that can be read.
        """
        config, task = stored_config(store), _stored_task(store)
        folders = {**_model_folders(config), **_stored_folders(store)}
        return cls(config=config, task=task, root=store.root, folders=folders)

    def with_plugins(self, given: Sequence[str]) -> ResolvedRun:
        """The same run, loaded, with the files of its graders. Raises `UserError` for a file that is not one of those
        that it was made with, and where its task needs another one."""
        made_with = {digest: path for path, digest in map(split_pin, self.config.plugins)}
        known = ", ".join(f"{path} ({str(digest)[:16]}…)" for digest, path in made_with.items())
        plugins = tuple(map(read_plugin, given))
        for plugin in plugins:
            if plugin.sha256 not in made_with:
                raise UserError(
                    f"--plugins {plugin.path}: its SHA-256 is {plugin.sha256[:16]}…, run {self.root} was made with "
                    f"{known or 'no plugins'}; give that file"
                )
        task = self.task.with_plugins(plugins)
        try:
            _ = task.grader
        except NoGraderError:
            raise UserError(
                f"run {self.root}: its answers are judged by the grader of a plugin; give the same file, --plugins "
                f"FILE: {known or 'an installed package that has it'}"
            ) from None
        run = replace(self, task=task)
        run._check_grader()
        return run

    def _check_grader(self) -> None:
        """Raises `UserError` where a stage of this run was judged by other code than a third party's grader has now."""
        now = as_stored(self.grader_key).get("grader", {})
        for stage in (EVALUATE, SCORE):
            then = stage_manifest(self.store, stage).get("key", {}).get("grader", {})
            if then and then != now:
                raise UserError(
                    f"run {self.root}: stage {stage} judged its answers with the grader of {_shown(then)}, here is "
                    f"that of {_shown(now)}; install the package as it was, with the same files"
                )

    @cached_property
    def store(self) -> Store:
        """The run's directory, whose storage is reached when it is asked for first. Raises `UserError` as `Store`."""
        return Store(self.root)

    def stored_config(self) -> Config | None:
        """The configuration that this run was last made with, None for a new one."""
        return stored_config(self.store) if self.store.exists(_CONFIG) else None

    def write(self) -> None:
        """Writes what `load` reads: configuration and task as they were given, and where model folders are."""
        task = {**self.task.model_dump(mode="json"), "license": self.task.license}
        self.store.write_json(_FOLDERS, dict(self.folders))
        self.store.write_bytes(_TASK, json.dumps(task, indent=2, ensure_ascii=False).encode())  # in the labels' order
        self.store.write_json(_CONFIG, self.config.model_dump(mode="json"))

    def with_model(self) -> ResolvedRun:
        """The same run with the files of its model found on this machine, downloaded where they are missing. Raises
        `UserError` as `resolve_model`."""
        return replace(self, models=(self._find(*self.config.models[0]),))

    def with_models(self) -> ResolvedRun:
        """Likewise for its model and the generators that run on the cluster."""
        return replace(self, models=tuple(self._find(*model) for model in self.config.models))

    def with_sampling(self) -> ResolvedRun:
        """The same run with what draws are made over settled by its prompt set."""
        return replace(self, config=resolve_sampling(self.config, PROMPT_SET.read(self.store)))

    def _find(self, name: str, revision: str | None) -> ModelFiles:
        return find_model(name, revision, place=self.place(name))

    def as_trained(self, key: Mapping[str, Any]) -> ResolvedRun:
        """The same run with the section `model` of the `key` that its arms were trained with. Raises `UserError` for a
        section that is none."""
        model = configured_model(key["model"])
        config = parse_config({**self.config.model_dump(mode="json"), "model": model}, self.store.uri(_CONFIG))
        return replace(self, config=config, models=())

    @property
    def model(self) -> ModelFiles:
        """The model that is scored, trained and evaluated."""
        assert self.models, "the models of this run were not resolved"
        return self.models[0]

    @property
    def model_key(self) -> dict[str, Any]:
        """Section `model` with the identity of the model's files and, for chat input, what its chat template writes
        around the contents: the part of a stage's key that says which model it was."""
        settings = self.config.model
        frame = {"chat_frame": chat_frame(self.model, settings.chat_template_kwargs)} if settings.chat else {}
        return {**input_key(settings), "identity": dict(self.model.identity), **frame}

    @property
    def task_key(self) -> dict[str, Any]:
        """The part of a stage's key that says which task it was."""
        return self.task.model_dump(mode="json")

    @property
    def grader_key(self) -> dict[str, Any]:
        """The part of the key of a stage that judges answers: which code of a third party did; empty for a grader of
        this package."""
        identity = self.task.grader_identity
        return {"grader": identity} if identity else {}

    def place(self, model_id: str) -> str:
        """The absolute path of a model that is a local folder, another name as it is."""
        return self.folders.get(model_id, model_id)

    def generator_model(self, generator: GeneratorConfig) -> ModelFiles:
        """The files of a generator, or judge, that runs on the cluster."""
        assert self.models, "the models of this run were not resolved"
        return self.models[self.config.models.index((generator.id, generator.revision))]


def _shown(identity: Any) -> str:
    """`package 1.2 (SHA-256 0123456789abcdef…)`: where the code of a third party's grader is from."""
    known = identity if isinstance(identity, dict) else {}
    return f"{one_line(known.get('package', 'a file'))[:100]} (SHA-256 {one_line(known.get('sha256'))[:16]}…)"


def stored_config(store: Store) -> Config:
    """The configuration that a run was last made with, paths as they were given. Raises `UserError` where the run has
    none."""
    check_version(store)
    if not store.exists(_CONFIG):
        raise UserError(f"run {store.root}: {_CONFIG} is missing; give the folder of a run that `paft` made")
    return parse_config(store.read_json(_CONFIG), store.uri(_CONFIG))


def check_version(store: Store) -> None:
    """Raises `UserError` for a run whose stages have the folders of version 0.1."""
    for folder, name in _OLD_FOLDERS.items():
        if store.exists(manifest_path(folder)):
            raise UserError(
                f"run {store.root}: made by an older version of paft (stage {name} has the folder {folder}); use "
                "another name, or that version"
            )


def _stored_task(store: Store) -> Task:
    """The task that a run was made for. Raises `UserError` where the run has none, or none that is one."""
    if not store.exists(_TASK):
        raise UserError(
            f"run {store.root}: {_TASK} is missing; start `paft run` with its configuration again (under another name "
            "if an older version made the run)"
        )
    try:
        return Task.model_validate(store.read_json(_TASK))
    except ValidationError as error:
        reason = first_fault(error, "task")[:200]
        raise UserError(f"{store.uri(_TASK)}: not a task ({reason}); restore it") from None


def _root(config: Config) -> str:
    """Absolute path or URI of the directory that a configuration names."""
    if "://" not in config.storage:
        return Store(config.storage).below(config.name).root
    place, options = split_uri(config.storage)
    return f"{place.rstrip('/')}/{config.name}{options}"


def _model_folders(config: Config) -> dict[str, str]:
    """Model name -> absolute path, of the models of a configuration that are folders of this machine."""
    paths = {name: Path(name).expanduser() for name, _ in config.models if name != "demo"}
    return {name: str(path.resolve()) for name, path in paths.items() if path.is_dir()}


def _stored_folders(store: Store) -> dict[str, str]:
    """Likewise as a run was made with them, those that are still there."""
    stated = store.read_json(_FOLDERS) if store.exists(_FOLDERS) else None
    return {
        name: folder
        for name, folder in (stated.items() if isinstance(stated, dict) else ())
        if isinstance(folder, str) and isabs(folder) and "\0" not in folder and isdir(folder)
    }
