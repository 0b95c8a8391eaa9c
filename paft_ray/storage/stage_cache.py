"""The stage cache: a stage writes its files, then its manifest last; one whose manifest has the same key is finished
and is not run again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow.fs as pafs

from paft_ray.echo import echo
from paft_ray.errors import UserError
from paft_ray.storage.stage_keys import compare_keys, left_over, refusal, with_accepted
from paft_ray.storage.store import Store
from paft_ray.storage.versions import made_with

Manifest = dict[str, Any]
PARTIAL = "partial"
"""Folder of a stage with what an attempt that did not end leaves for the next; it goes when the manifest is written."""


def cached(
    run: Store,
    stage: str,
    key: Mapping[str, Any],
    body: Callable[[], Manifest],
    *,
    force: bool = False,
    accept: Sequence[str] = (),
    announce: Callable[[str], None] = echo,
) -> Manifest:
    """The manifest of a stage: read where it is finished with this key, else from running `body`.

    `key`: everything that decides the result: parts of the configuration, hashes of inputs, `versions.decided_by`. A
    finished stage with another key raises `UserError` naming the entries that differ, unless `force`; one that differs
    in entries of `accept` alone is kept, and its manifest says so. The manifest gets `key`, `time_s`, `made_with` and
    is written last.
    """
    path = f"{stage}/manifest.json"
    full = json.loads(json.dumps(dict(key)))
    if run.exists(path):
        manifest = run.read_json(path)
        if not force:
            manifest = _checked(run, stage, manifest, full, accept)
            run.delete(f"{stage}/{PARTIAL}")
            announce(f"{stage}: finished before, kept ({run.uri(stage)})")
            return manifest
        announce(f"{stage}: --force replaces {run.uri(stage)}")
        run.delete(path)
    if force:
        run.delete(f"{stage}/{PARTIAL}")
    start = time.perf_counter()
    manifest = {**body(), "key": full, "time_s": round(time.perf_counter() - start, 3), "made_with": made_with()}
    run.write_json(path, manifest)
    run.delete(f"{stage}/{PARTIAL}")
    announce(f"{stage}: done in {manifest['time_s']:.0f} s")
    return manifest


def _checked(run: Store, stage: str, manifest: Manifest, key: Manifest, accept: Sequence[str]) -> Manifest:
    """The manifest of a finished stage, with what was accepted of its differences. Raises `UserError` for others."""
    found = compare_keys(manifest["key"], key)
    if refused := left_over(found, manifest, accept):
        raise UserError(refusal(f"stage {stage} of run {run.name}", refused))
    kept = with_accepted(manifest, found)
    if kept != manifest:
        run.write_json(f"{stage}/manifest.json", kept)
    return kept


def finished_below(run: Store, folder: str) -> list[str]:
    """Names of the folders in `folder` that have a manifest, sorted."""
    names = sorted(entry.base_name for entry in run.entries(folder) if entry.type == pafs.FileType.Directory)
    return [name for name in names if run.exists(f"{folder}/{name}/manifest.json")]
