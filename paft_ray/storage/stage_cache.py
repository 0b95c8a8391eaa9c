"""The stage cache: a stage writes its files, then its manifest last; one whose manifest has the same key and whose
outputs are intact is finished and is not run again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow.fs as pafs

from paft_ray.errors import UserError
from paft_ray.log import get_logger, stage_label
from paft_ray.storage.outputs import StageManifest, damage, manifest_path, parse_manifest, read_raw_manifest
from paft_ray.storage.stage_keys import compare_keys, left_over, refusal, with_accepted
from paft_ray.storage.store import Store
from paft_ray.storage.versions import made_with

_log = get_logger(__name__)
Manifest = dict[str, Any]
"""A manifest as it is written; `storage.manifests` has the types that readers see."""
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
    announce: Callable[[str], None] = _log.info,
    on_damage: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """The manifest of a stage: read where it is finished with this key and its outputs are intact, else from running
    `body`.

    `body`: writes the outputs; the manifest that it gives names them in `outputs` (path relative to the run ->
    SHA-256). Raises as `kept`.
    """
    known = kept(run, stage, key, force=force, accept=accept, announce=announce, on_damage=on_damage)
    if known is not None:
        return known
    start = time.perf_counter()
    manifest = body()
    return finish(run, stage, key, manifest, time_s=time.perf_counter() - start, announce=announce)


def kept(
    run: Store,
    stage: str,
    key: Mapping[str, Any],
    *,
    force: bool = False,
    accept: Sequence[str] = (),
    announce: Callable[[str], None] = _log.info,
    on_damage: Callable[[str], None] = lambda _: None,
) -> Manifest | None:
    """The manifest of a stage that is finished with this key and whose outputs are intact; None: it is to be made.

    `key`: everything that decides the result: parts of the configuration, hashes of inputs, `versions.decided_by`. A
    missing or damaged output is named, and given to `on_damage` before the stage is made again. A finished stage with
    another key raises `UserError` naming the entries that differ, unless `force`; one that differs in entries of
    `accept` alone is kept, and its manifest says so.
    """
    manifest = None
    if run.exists(manifest_path(stage)):
        if force:
            announce(f"{stage_label(stage)} --force replaces {run.uri(stage)}")
            run.delete(manifest_path(stage))
        else:
            manifest = _intact(run, stage, _checked(run, stage, key, accept), announce, on_damage)
    if force or manifest is not None:
        run.delete(f"{stage}/{PARTIAL}")
    return manifest


def _checked(run: Store, stage: str, key: Mapping[str, Any], accept: Sequence[str]) -> Manifest:
    """The manifest of a finished stage, with what was accepted of its differences. Raises `UserError` for others, and
    for a manifest that is none."""
    manifest = read_raw_manifest(run, stage)
    differing = compare_keys(parse_manifest(run, stage, manifest, StageManifest).key, as_stored(key))
    if refused := left_over(differing, manifest, accept):
        raise UserError(refusal(f"stage {stage} of run {run.name}", refused))
    accepted = with_accepted(manifest, differing)
    if accepted != manifest:
        run.write_json(manifest_path(stage), accepted)
    return accepted


def _intact(
    run: Store,
    stage: str,
    manifest: Manifest,
    announce: Callable[[str], None],
    on_damage: Callable[[str], None],
) -> Manifest | None:
    """The manifest where all outputs are there as they were written, else None."""
    if fault := damage(run, manifest["outputs"]):
        path, what = fault
        announce(f"{stage_label(stage)} {path} {what}: running again")
        run.delete(manifest_path(stage))
        on_damage(path)
        return None
    announce(f"{stage_label(stage)} up to date, skipping ({run.uri(stage)})")
    return manifest


def finish(
    run: Store,
    stage: str,
    key: Mapping[str, Any],
    manifest: Manifest,
    *,
    time_s: float,
    announce: Callable[[str], None] = _log.info,
) -> Manifest:
    """The manifest of a stage that was just made, with `key`, `time_s` and `made_with`, after writing it last."""
    full = {
        "outputs": {},
        **manifest,
        "key": as_stored(key),
        "time_s": round(time_s, 3),
        "made_with": made_with(),
    }
    run.write_json(manifest_path(stage), full)
    run.delete(f"{stage}/{PARTIAL}")
    announce(f"{stage_label(stage)} done in {time_s:.0f} s")
    return full


def unfinish(run: Store, stages: Sequence[str]) -> None:
    """Takes the manifests of stages and of their parts away, the last stage's first; what they wrote stays."""
    for stage in reversed(stages):
        run.delete(manifest_path(stage))
        for name in finished_below(run, stage):
            run.delete(manifest_path(f"{stage}/{name}"))


def as_stored(key: Mapping[str, Any]) -> Manifest:
    """A key as a manifest states it."""
    return dict(json.loads(json.dumps(dict(key))))


def finished_below(run: Store, folder: str) -> list[str]:
    """Names of the folders in `folder` that have a manifest, sorted."""
    names = sorted(entry.base_name for entry in run.entries(folder) if entry.type == pafs.FileType.Directory)
    return [name for name in names if run.exists(manifest_path(f"{folder}/{name}"))]
