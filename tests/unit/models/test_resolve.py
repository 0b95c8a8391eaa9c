"""Where a model's files are found, and what is refused. Nothing here loads a model."""

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from paft_ray.errors import UserError
from paft_ray.models import resolve
from paft_ray.models.identity import model_identity


def test_a_local_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds no \*\.safetensors"):
        resolve.resolve_model(str(tmp_path), None)
    save_file({"a": np.zeros((2, 3), np.float32)}, tmp_path / "model.safetensors")
    assert resolve.resolve_model(str(tmp_path), None) == str(tmp_path.resolve())
    with pytest.raises(UserError, match="no tokenizer that can be read"):
        resolve.load_tokenizer(str(tmp_path))


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no config"):
        resolve.resolve_model(str(tmp_path), None)


@pytest.mark.parametrize("name", ["./missing", "/no/such/model", "a-word", "a/b/c"])
def test_what_is_neither_folder_nor_hub_id_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="no such folder"):
        resolve.resolve_model(name, None)


def test_a_hub_id_that_cannot_be_fetched_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"model owner/nothing \(revision abc\): cannot be fetched") as error:
        resolve.resolve_model("owner/nothing", "abc")
    assert "\n" not in str(error.value)


def test_the_identity_changes_with_the_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_text("one")
    before = model_identity("m", "r", str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("two")
    assert (before["id"], before["revision"]) == ("m", "r")
    assert model_identity("m", "r", str(tmp_path)) != before


def test_the_identity_changes_with_weights_saved_in_place(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(3_000_000))
    before = model_identity("m", None, str(tmp_path))
    assert model_identity("m", None, str(tmp_path)) == before
    (tmp_path / "model.safetensors").write_bytes(bytes([1]) * 3_000_000)
    assert model_identity("m", None, str(tmp_path)) != before


def test_what_a_tokenizer_writes_to_the_terminal_shows_as_text(capfd: pytest.CaptureFixture[str]) -> None:
    with resolve.tokenizer_errors("it"):
        os.write(2, "\x1b]0;title\x07 \u202e\x9b2J\n".encode())
    assert capfd.readouterr().err == "\\x1b]0;title\\x07 \\u202e\\x9b2J\n"
