"""Checkpoints on storage: intact or skipped by name, newest kept, no pickle."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.fs as pafs
import pytest
import torch

from paft_ray.errors import StageError, UserError
from paft_ray.storage.store import Store
from paft_ray.training import checkpoint


def _state(step: int) -> checkpoint.TrainingState:
    return checkpoint.TrainingState(
        step=step, tensors={"weight/a": torch.full((2, 3), float(step)), "exp_avg/a": torch.zeros(2, 3)}
    )


def _store(folder: Path, *steps: int, keep: int = 5) -> Store:
    store = Store(str(folder))
    for step in steps:
        checkpoint.write(store, _state(step), {"seed": 0}, keep)
    return store


def _edit(folder: Path, **values: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _flip(folder: Path) -> None:
    data = bytearray((folder / "state.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "state.safetensors").write_bytes(bytes(data))


def _cut(folder: Path, name: str, size: int) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:size])


def _leave_only_a_part(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    (folder / "state.safetensors.123.part").write_bytes(b"half")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json is missing"),
    "an empty folder": (lambda f: [p.unlink() for p in f.iterdir()], "manifest.json is missing"),
    "only a part": (_leave_only_a_part, "manifest.json is missing"),
    "manifest cut": (lambda f: _cut(f, "manifest.json", 20), "manifest.json is not JSON"),
    "manifest empty": (lambda f: (f / "manifest.json").write_bytes(b""), "manifest.json is not JSON"),
    "manifest not UTF-8": (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe{}"), "manifest.json is not JSON"),
    "manifest too deep": (lambda f: (f / "manifest.json").write_text("[" * 100_000), "manifest.json is not JSON"),
    "manifest a list": (lambda f: (f / "manifest.json").write_text("[1]"), "names no checksum"),
    "manifest without checksums": (lambda f: (f / "manifest.json").write_text("{}"), "names no checksum"),
    "checksums a list": (lambda f: _edit(f, sha256=["x"]), "names no checksum"),
    "checksum of another file": (lambda f: _edit(f, sha256={"../other": "0"}), "names no checksum"),
    "checksum a number": (lambda f: _edit(f, sha256={"state.safetensors": 3}), "names no checksum"),
    "wrong step": (lambda f: _edit(f, step=5), "belongs to step 5"),
    "no step": (lambda f: _edit(f, step=None), "belongs to step None"),
    "no state": (lambda f: (f / "state.safetensors").unlink(), "state.safetensors is missing"),
    "state cut": (lambda f: _cut(f, "state.safetensors", 100), "does not match its checksum"),
    "state empty": (lambda f: _cut(f, "state.safetensors", 0), "does not match its checksum"),
    "of an earlier version": (lambda f: _edit(f, schema_version=None), "schema_version None, this version reads 2"),
    "of a later version": (lambda f: _edit(f, schema_version=3), "schema_version 3, this version reads 2"),
    "one bit": (_flip, "does not match its checksum"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_skipped_by_name_and_the_one_before_taken(tmp_path: Path, damage: str) -> None:
    store, said = _store(tmp_path, 5, 10), []
    act, reason = DAMAGES[damage]
    act(tmp_path / "step-000010")
    assert checkpoint.newest(store, said.append) == 5
    assert len(said) == 1
    assert re.fullmatch(
        rf"skipping \w+ checkpoint {re.escape(str(tmp_path))}/step-000010: .*{re.escape(reason)}.*", said[0]
    )
    assert torch.equal(checkpoint.read(store, 5).tensors["weight/a"], _state(5).tensors["weight/a"])


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_a_damaged_checkpoint_leaves_is_gone_once_training_resumes(tmp_path: Path, damage: str) -> None:
    store = _store(tmp_path, 5, 10)
    DAMAGES[damage][0](tmp_path / "step-000010")
    start = checkpoint.newest(store, lambda line: None)
    checkpoint.discard_after(store, start)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000005"]
    checkpoint.write(store, _state(10), {}, 2)
    assert checkpoint.newest(store, pytest.fail) == 10
    assert sorted(p.name for p in (tmp_path / "step-000010").iterdir()) == ["manifest.json", "state.safetensors"]


def test_with_nothing_intact_left_training_starts_anew_and_says_so(tmp_path: Path) -> None:
    store, said = _store(tmp_path, 5, 10), []
    _flip(tmp_path / "step-000005")
    (tmp_path / "step-000010" / "manifest.json").unlink()
    assert checkpoint.newest(store, said.append) == 0
    assert ["step-000010" in said[0], "step-000005" in said[1], "starts from step 0" in said[2]] == [True] * 3


def test_a_checkpoint_without_a_manifest_is_called_incomplete(tmp_path: Path) -> None:
    store, said = _store(tmp_path, 5, 10), []
    (tmp_path / "step-000010" / "manifest.json").unlink()
    checkpoint.newest(store, said.append)
    assert said == [f"skipping incomplete checkpoint {tmp_path}/step-000010: manifest.json is missing"]


def test_a_warning_comes_only_for_what_is_newer_than_the_checkpoint_taken(tmp_path: Path) -> None:
    store = _store(tmp_path, 5, 10)
    _flip(tmp_path / "step-000005")
    assert checkpoint.newest(store, pytest.fail) == 10


def test_what_is_no_checkpoint_is_neither_read_nor_removed(tmp_path: Path) -> None:
    store = _store(tmp_path, 5)
    others = ["step-abc", "step-7", "step-0000009", "step-000009-old", "wandb", "step--00009"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / "step-000020").write_text("a file")
    (tmp_path / "step-000005" / "notes.txt").write_text("extra")
    assert checkpoint.newest(store, pytest.fail) == 5
    checkpoint.discard_after(store, 5)
    checkpoint.write(store, _state(6), {}, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*others, "step-000020", "step-000006"])


def test_a_storage_that_does_not_let_itself_be_read_is_no_damaged_checkpoint(tmp_path: Path) -> None:
    store = _store(tmp_path, 5, 10)
    store.filesystem = _Refusing(store.filesystem)
    with pytest.raises(UserError, match=r"cannot be read.*check the URI and the credentials"):
        checkpoint.newest(store, pytest.fail)


class _Refusing:
    """A filesystem that lists and opens nothing."""

    def __init__(self, inner: pafs.FileSystem) -> None:
        self.inner = inner

    def get_file_info(self, what: object) -> object:
        return self.inner.get_file_info(what)

    def open_input_stream(self, path: str) -> object:
        raise PermissionError(13, "Permission denied", path)


def test_a_checkpoint_damaged_between_choosing_and_reading_is_an_error(tmp_path: Path) -> None:
    store = _store(tmp_path, 5)
    assert checkpoint.newest(store) == 5
    _flip(tmp_path / "step-000005")
    with pytest.raises(StageError, match=r"step-000005: .* checksum; start again to resume from the"):
        checkpoint.read(store, 5)


def test_an_intact_file_that_is_no_state_is_named_so_and_want_of_memory_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(tmp_path, 5)
    manifest = store.read_json("step-000005/manifest.json")
    store.write_bytes("step-000005/state.safetensors", b"no state")
    manifest["sha256"] = {"state.safetensors": hashlib.sha256(b"no state").hexdigest()}
    store.write_json("step-000005/manifest.json", manifest)
    with pytest.raises(StageError, match=r"step-000005: state.safetensors holds no state of a training \(a header"):
        checkpoint.read(store, 5)

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(MemoryError):
        checkpoint.read(_store(tmp_path / "other", 5), 5)


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    store = _store(tmp_path, 10)
    found = checkpoint.read(store, checkpoint.newest(store))
    assert found.step == 10
    assert torch.equal(found.tensors["weight/a"], _state(10).tensors["weight/a"])


def test_no_checkpoint_means_step_zero(tmp_path: Path) -> None:
    assert checkpoint.newest(Store(str(tmp_path / "missing")), pytest.fail) == 0


def test_only_the_newest_are_kept_in_order_of_step(tmp_path: Path) -> None:
    store = _store(tmp_path, 9, 10, 1_000_000, keep=2)
    assert checkpoint.steps(store) == [10, 1_000_000]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000010", "step-1000000"]


def test_a_spared_checkpoint_outlives_the_newest(tmp_path: Path) -> None:
    store = _store(tmp_path, 1, 2)
    for step in (3, 4, 5):
        checkpoint.write(store, _state(step), {}, 1, spare=[2])
    assert checkpoint.steps(store) == [2, 5]


def test_torn_folders_count_for_nothing_and_are_removed_with_the_next_checkpoint(tmp_path: Path) -> None:
    store = _store(tmp_path, 1, 2, 3, 4)
    for step in (3, 4):
        (tmp_path / f"step-00000{step}" / "manifest.json").unlink()
    checkpoint.write(store, _state(5), {}, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000002", "step-000005"]


def test_folders_of_other_fingerprints_are_left_alone(tmp_path: Path) -> None:
    _store(tmp_path / "other", 1, 2, 30)
    (tmp_path / "other" / "step-000001" / "manifest.json").unlink()
    store = _store(tmp_path / "mine", 9, 10, keep=1)
    checkpoint.discard_after(store, 0)
    assert checkpoint.newest(store) == 0
    assert sorted(p.name for p in (tmp_path / "other").iterdir()) == ["step-000001", "step-000002", "step-000030"]


def test_the_manifest_names_seed_step_checksums_and_versions(tmp_path: Path) -> None:
    manifest = _store(tmp_path, 5).read_json("step-000005/manifest.json")
    assert manifest["seed"] == 0
    assert manifest["step"] == 5
    assert set(manifest["sha256"]) == {"state.safetensors"}
    assert "torch" in manifest["versions"]
