"""A run's configuration, with the paths in it found again from any folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from os.path import isabs, isdir, isfile
from pathlib import Path
from typing import Any

from paft_ray.config import Config, parse_config
from paft_ray.errors import UserError
from paft_ray.report.trained_models import as_trained
from paft_ray.storage.store import Store

_CONFIG, _ORIGIN = "config.json", "origin.json"


def store_config(run: Store, config: Config) -> None:
    """Writes config.json, paths as given, and origin.json with the folder that relative ones start in."""
    run.write_json(_ORIGIN, {"folder": os.getcwd()})
    run.write_json(_CONFIG, config.model_dump(mode="json"))


def stored_config(run: Store) -> Config:
    """The configuration of a run; its task and its models, where paths, from the folder that the run was started in,
    else from this one.

    Raises `UserError` where the run has none, or its task is in neither.
    """
    if not run.exists(_CONFIG):
        raise UserError(f"run {run.root}: {_CONFIG} is missing; give the folder of a run that `paft` made")
    config = parse_config(run.read_json(_CONFIG), run.uri(_CONFIG))
    task = found_again(run, config.task)
    if task.endswith((".yaml", ".yml")) and not isfile(task):
        places = " or ".join(dict.fromkeys([_origin(run), os.getcwd()]))
        raise UserError(
            f"run {run.root}: its task {config.task} is not there any more (looked in {places}); put it back, or "
            "start the command where it is"
        )
    generators = tuple(
        each if each.endpoint else each.model_copy(update={"id": found_again(run, each.id)})
        for each in config.prompts.generators
    )
    changes: dict[str, Any] = {
        "task": task,
        "model": config.model.model_copy(update={"id": found_again(run, config.model.id)}),
        "prompts": config.prompts.model_copy(update={"generators": generators}),
    }
    return config.model_copy(update=changes)


def trained_config(run: Store, key: Mapping[str, Any]) -> Config:
    """The configuration of a run with the model section of the `key` that its arms were trained with. Raises as
    `stored_config`."""
    config = as_trained(stored_config(run), run, key)
    return config.model_copy(
        update={"model": config.model.model_copy(update={"id": found_again(run, config.model.id)})}
    )


def found_again(run: Store, path: str) -> str:
    """The file or folder of this relative path in the folder that the run was started in; the path itself where there
    is none (a name, a hub's id)."""
    there = str(Path(_origin(run), path))
    return there if not isabs(path) and (isfile(there) if path.endswith((".yaml", ".yml")) else isdir(there)) else path


def _origin(run: Store) -> str:
    """The folder that the run was started in; this one where the run does not say."""
    found = run.read_json(_ORIGIN) if run.exists(_ORIGIN) else None
    folder = found.get("folder") if isinstance(found, dict) else None
    return folder if isinstance(folder, str) and isabs(folder) and "\0" not in folder else os.getcwd()
