"""What trackers show as one run, and the id by which they find it again. Imports no client."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paft_ray.config import TrackingConfig
from paft_ray.errors import UserError
from paft_ray.storage.store import Store

_ID = "tracking.json"
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class TrackerRun:
    """What trackers show as one run."""

    config: TrackingConfig
    id: str
    """The same after every restart; W&B's own id, a tag in MLflow."""
    name: str
    """E.g. `paft-s0`."""
    group: str
    """Name of the run that it belongs to."""
    label: str
    """Opens its console lines, e.g. `[train paft/seed0]`."""
    params: Mapping[str, Any]
    """Settings by dotted name."""
    folder: str | None
    """Local folder for W&B's files; None: W&B's own choice."""

    @classmethod
    def of(
        cls,
        config: TrackingConfig | None,
        store: Store,
        *,
        name: str,
        group: str,
        label: str,
        params: Mapping[str, Any],
    ) -> TrackerRun | None:
        """The tracker run that belongs to the folder `store`, None where no tracker is asked for. `params` may be
        nested."""
        if config is None or (config.mlflow is None and config.wandb is None):
            return None
        folder = None if "://" in store.root or "WANDB_DIR" in os.environ else store.root
        return cls(
            config=config,
            id=tracker_id(store),
            name=name,
            group=group,
            label=label,
            params=_flat(params),
            folder=folder,
        )


def tracker_id(store: Store) -> str:
    """An id that is made once and kept in tracking.json of the folder: it lives exactly as long as the checkpoints
    there that a restart resumes from. Raises `UserError` for a file that holds none.

    An id made from path and settings instead would meet that of another machine, and that of the training which --force
    replaces.
    """
    if not store.exists(_ID):
        store.write_json(_ID, {"id": uuid.uuid4().hex})
    stored = store.read_json(_ID)
    found = stored.get("id") if isinstance(stored, dict) else None
    if not isinstance(found, str) or not re.fullmatch("[0-9a-f]{32}", found):
        raise UserError(f"{store.uri(_ID)}: it holds no id of a tracker run; delete it and start again")
    return found


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """`train/NAME` -> value of one step, without what was not measured."""
    return {f"train/{name}": value for name, value in row.items() if name != "step" and value is not None}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
