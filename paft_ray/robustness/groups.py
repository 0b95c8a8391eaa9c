"""Models by what answers for them: the same base, asked in the same way. Imports no Ray: it is read before Ray
starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paft_ray.models.reference import ModelFiles
from paft_ray.robustness.models import GivenModel
from paft_ray.stages.resolved_run import ResolvedRun


@dataclass(frozen=True, kw_only=True)
class Group:
    """Models that one engine answers for: the same base, asked in the same way."""

    resolved: ResolvedRun
    """Its section `model` with the files found."""
    models: tuple[GivenModel, ...]


def grouped(resolved: ResolvedRun, models: Sequence[GivenModel]) -> list[Group]:
    """The models that an engine answers for, by base and section `model`; those of one base stand next to each other.
    Their files are found, downloaded where they are missing. Raises `UserError` as `find_model`."""
    found: dict[tuple[str, str], list[GivenModel]] = {}
    for model in models:
        if model.endpoint is None:
            found.setdefault((model.place, model.settings.model_dump_json()), []).append(model)
    bases: dict[str, ModelFiles] = {}
    groups = []
    for (place, _), members in found.items():
        settings = members[0].settings
        config = resolved.config.model_copy(update={"model": settings})
        folders = {settings.id: place} if Path(place).is_absolute() else {}
        of_group = replace(resolved, config=config, folders=folders).with_model()
        base = bases.setdefault(of_group.model.path, of_group.model)  # a folder may be named by an id, too
        groups.append(Group(resolved=replace(of_group, models=(base,)), models=tuple(members)))
    return sorted(groups, key=lambda group: group.resolved.model.path)
