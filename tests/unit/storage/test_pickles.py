"""The check on what users share finds every form of pickle, and lets pass what stage train writes."""

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from tests.support.pickles import not_plain, pickles


def _torch(*, zipped: bool) -> bytes:
    sink = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, sink, _use_new_zipfile_serialization=zipped)
    return sink.getvalue()


def _zip() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return sink.getvalue()


BAD = {
    "optimizer.json": _torch(zipped=True),
    "optimizer.safetensors": _torch(zipped=False),
    "state.json": _zip(),
    **{
        f"protocol-{p}.json": pickle.dumps({"a": [1, 2.5, None]}, protocol=p)
        for p in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "adapter_model.bin": b"",
    "mp_rank_00_model_states.pt": b"{}",
    "scheduler.pkl": b"{}",
    "rng.pth": b"{}",
}


@pytest.mark.parametrize("name", BAD)
def test_a_pickle_is_found_under_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / name).write_bytes(BAD[name])
    assert pickles(tmp_path) == [f"below/{name}"]


def test_what_stage_train_writes_passes(tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes(save({"weight/a": torch.ones(3)}))
    (tmp_path / "manifest.json").write_text('{"step": 5}\n')
    (tmp_path / "empty.json").write_text("{}")
    assert pickles(tmp_path) == not_plain(tmp_path) == []


def test_a_file_behind_the_tensors_or_of_another_kind_is_not_plain(tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes(save({"weight/a": torch.ones(3)}) + pickle.dumps(1))
    (tmp_path / "state.txt").write_text("{}")
    assert not_plain(tmp_path) == ["state.safetensors", "state.txt"]
