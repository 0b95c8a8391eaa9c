"""The run directory and the stage cache. Invariant 10."""

from pathlib import Path

import pyarrow as pa
import pytest

from paft_ray.errors import UserError
from paft_ray.storage.outputs import fetch_verified, file_digest
from paft_ray.storage.stage_cache import Manifest, cached
from paft_ray.storage.store import Store
from tests.support.made_stage import sums_below


class Body:
    """A stage's body that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Manifest:
        self.calls += 1
        return {"made": self.calls}


def silent(_: str) -> None:
    return None


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    run, body = Store.open(str(tmp_path), "a"), Body()
    first = cached(run, "prepare", {"seed": 1}, body, announce=silent)
    assert cached(run, "prepare", {"seed": 1}, body, announce=silent) == first
    assert (body.calls, first["made"]) == (1, 1)


def test_a_changed_key_is_refused_with_the_differing_entry_named(tmp_path: Path) -> None:
    run, body = Store.open(str(tmp_path), "a"), Body()
    cached(run, "prepare", {"data": {"num_train": 4}, "seed": 1}, body, announce=silent)
    with pytest.raises(
        UserError, match=r"stage prepare of run a .* \(data\.num_train: 4 -> 5\); use another name or --force"
    ):
        cached(run, "prepare", {"data": {"num_train": 5}, "seed": 1}, body, announce=silent)
    assert body.calls == 1


def test_force_says_what_it_replaces(tmp_path: Path) -> None:
    run, body, said = Store.open(str(tmp_path), "a"), Body(), []
    cached(run, "prepare", {"seed": 1}, body, announce=silent)
    assert cached(run, "prepare", {"seed": 2}, body, force=True, announce=said.append)["made"] == 2
    assert said[0] == f"[prepare] --force replaces {tmp_path}/a/prepare"


def test_a_stage_that_fails_leaves_no_manifest(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "a")

    def broken() -> Manifest:
        run.write_json("prepare/half.json", {})
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        cached(run, "prepare", {}, broken, announce=silent)
    assert not run.exists("prepare/manifest.json")
    assert cached(run, "prepare", {}, Body(), announce=silent)["made"] == 1


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "a")
    run.write_bytes("x/y.bin", b"old")
    run.write_bytes("x/y.bin", b"new")
    assert run.read_bytes("x/y.bin") == b"new"
    assert [p.name for p in (tmp_path / "a" / "x").iterdir()] == ["y.bin"]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_paths_and_uris_hold_the_same_artifacts(tmp_path: Path, scheme: str) -> None:
    run = Store.open(f"{scheme}{tmp_path}", "a")
    table = pa.table({"id": ["x"]})
    run.write_table("prepare/t.parquet", table)
    assert run.read_table("prepare/t.parquet") == table
    assert run.name == "a"
    assert run.uri("prepare").endswith("/a/prepare")
    assert file_digest(run, "prepare/t.parquet") == file_digest(Store(f"{tmp_path}/a"), "prepare/t.parquet")
    run.delete("prepare")
    run.delete("prepare")
    assert not run.exists("prepare/t.parquet")


def test_folders_go_up_and_come_down(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path / "runs"), "a")
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "f.txt").write_text("x")
    run.write_bytes("train/stale.txt", b"old")
    run.upload_dir(tmp_path / "up", "train")
    fetch_verified(run, "train", sums_below(run, "train"), tmp_path / "down")
    assert [p.name for p in (tmp_path / "down").iterdir()] == ["f.txt"]


def test_storage_that_cannot_be_used_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for storage, message in ((str(tmp_path / "file"), "cannot be written"), ("zz://x", "give a folder or a URI")):
        with pytest.raises(UserError, match=message) as caught:
            Store.open(storage, "a")
        assert "\n" not in str(caught.value)
