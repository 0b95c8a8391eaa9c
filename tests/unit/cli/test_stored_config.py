"""Commands on a finished run find the user's own task and model, named by relative paths, from any folder."""

import json
from pathlib import Path

import pytest

from paft_ray.cli.main import main
from paft_ray.cli.stored_config import store_config, stored_config
from paft_ray.config import Config, load_config
from paft_ray.errors import UserError
from paft_ray.models.identity import model_identity
from paft_ray.storage.store import Store
from tests.support.own_task import write_own_task
from tests.unit.cli.test_export import base_model, trained_run


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a task of one's own; the tests start in it."""
    folder = write_own_task(tmp_path, str(base_model(tmp_path / "base")))
    monkeypatch.chdir(folder)
    return folder


def stored(folder: Path) -> tuple[Store, Config]:
    config, run = load_config("run.yaml"), Store(str(folder / "runs" / "own"))
    store_config(run, config)
    return run, config


def test_paths_are_stored_as_given_and_found_again_elsewhere(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = stored(own)
    assert json.loads(run.read_bytes("config.json"))["task"] == config.task == "my task.yaml"
    monkeypatch.chdir(tmp_path)
    found = stored_config(run)
    assert (found.task, found.model.id) == (str(own / "my task.yaml"), str(own / "model"))
    assert found.model_copy(update={"task": config.task, "model": config.model}) == config


def test_a_folder_that_was_moved_with_its_runs_is_still_good(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(own)
    moved = own.rename(tmp_path / "moved")
    monkeypatch.chdir(moved)
    assert stored_config(Store("runs/own")).task == "my task.yaml"


def test_a_task_that_is_gone_is_told_with_the_places(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = stored(own)
    (own / "my task.yaml").unlink()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=rf"its task my task\.yaml is not there any more \(looked in {own} or {tmp_path}\); put it back"
    ):
        stored_config(run)


@pytest.mark.parametrize(
    "origin", ["[]", '{"folder": 1}', '{"folder": "not/absolute"}', '{"folder": "/a\\u0000b"}', "{}"]
)
def test_an_origin_that_says_nothing_is_the_working_folder(own: Path, origin: str) -> None:
    run, _ = stored(own)
    run.write_bytes("origin.json", origin.encode())
    assert stored_config(run).task == str(own / "my task.yaml")


def test_a_run_of_ones_own_task_is_exported_from_another_folder(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained_run(tmp_path / "made")
    manifest = run.read_json("train/manifest.json")
    manifest["key"]["model"] |= {"id": "./model", "identity": model_identity("./model", None, "model")}
    run.write_json("train/manifest.json", manifest)
    store_config(run, load_config("run.yaml", ["score.enabled=false", "train.arms=[sft,paft]"]))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["export", run.root, "--out", str(tmp_path / "out")])
    assert not stopped.value.code, capsys.readouterr().err
    assert (tmp_path / "out" / "README.md").is_file()
