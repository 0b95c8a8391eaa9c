"""A model on another node than the driver's: in the same folder, found again by name, or refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from paft_ray.errors import UserError
from paft_ray.models.local import find_model, find_on_this_node
from paft_ray.models.reference import ModelFiles


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFiles:
    monkeypatch.setenv("PAFT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    save_file({"a": np.zeros(2)}, tmp_path / "model/model.safetensors")
    return find_model(str(tmp_path / "model"), None)


def test_a_folder_that_is_on_this_node_too_is_taken(model: ModelFiles) -> None:
    assert find_on_this_node(model) == model


def test_a_model_in_another_folder_is_found_by_its_name(model: ModelFiles, tmp_path: Path) -> None:
    elsewhere = replace(model, path=str(tmp_path / "only-on-the-driver"))
    assert find_on_this_node(elsewhere) == model


def test_other_files_than_the_drivers_are_refused_with_the_node(model: ModelFiles) -> None:
    other = replace(model, reference=replace(model.reference, identity={**model.identity, "files": {}}))
    with pytest.raises(UserError, match=r"^node .*: model .* has other files than the driver's") as refused:
        find_on_this_node(other)
    assert "\n" not in str(refused.value)


def test_a_model_that_is_not_on_this_node_is_refused_with_the_node(model: ModelFiles, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    gone = ModelFiles(reference=replace(model.reference, id=missing), path=missing)
    with pytest.raises(UserError, match=r"^node .*: model .*missing: no such folder"):
        find_on_this_node(gone)


def test_a_cache_that_cannot_be_written_costs_the_lock_and_nothing_else(
    model: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PAFT_CACHE", str(tmp_path / "file"))
    assert find_on_this_node(model) == model
