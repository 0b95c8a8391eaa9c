"""Checkpoints on storage: whole or passed over, newest kept, no pickle."""

from pathlib import Path

import torch

from paft_ray.artifacts import Run
from paft_ray.training import checkpoint


def _state(step: int) -> checkpoint.TrainingState:
    return checkpoint.TrainingState(step=step, tensors={"weight/a": torch.full((2, 3), float(step)), "exp_avg/a": torch.zeros(2, 3)})


def _store(folder: Path, *steps: int, keep: int = 5) -> Run:
    store = Run(str(folder))
    for step in steps:
        checkpoint.write(store, _state(step), {"seed": 0}, keep)
    return store


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    store = _store(tmp_path, 10)
    found = checkpoint.read(store, checkpoint.newest(store))
    assert found.step == 10
    assert torch.equal(found.tensors["weight/a"], _state(10).tensors["weight/a"])


def test_no_checkpoint_means_step_zero(tmp_path: Path) -> None:
    assert checkpoint.newest(Run(str(tmp_path / "missing"))) == 0


def test_only_the_newest_are_kept_in_order_of_step(tmp_path: Path) -> None:
    store = _store(tmp_path, 9, 10, 1_000_000, keep=2)
    assert checkpoint.steps(store) == [10, 1_000_000]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000010", "step-1000000"]


def test_a_checkpoint_without_manifest_is_passed_over(tmp_path: Path) -> None:
    store = _store(tmp_path, 5, 10)
    (tmp_path / "step-000010" / "manifest.json").unlink()
    assert checkpoint.newest(store) == 5


def test_a_checkpoint_with_one_changed_byte_is_passed_over(tmp_path: Path) -> None:
    store = _store(tmp_path, 5, 10)
    path = tmp_path / "step-000010" / "state.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert checkpoint.newest(store) == 5


def test_a_torn_manifest_is_passed_over(tmp_path: Path) -> None:
    store = _store(tmp_path, 5, 10)
    path = tmp_path / "step-000010" / "manifest.json"
    path.write_text(path.read_text()[:20])
    assert checkpoint.newest(store) == 5


def test_the_manifest_names_seed_step_checksums_and_versions(tmp_path: Path) -> None:
    manifest = _store(tmp_path, 5).read_json("step-000005/manifest.json")
    assert manifest["seed"] == 0
    assert manifest["step"] == 5
    assert set(manifest["sha256"]) == {"state.safetensors"}
    assert "torch" in manifest["versions"]
