"""`paft init`: what it writes is a run that preflight takes."""

from pathlib import Path

import pytest

from paft_ray.cli.init import init
from paft_ray.cli.preflight import check_inputs
from paft_ray.config import load_config
from paft_ray.errors import UserError
from paft_ray.stages.resolved_run import ResolvedRun


def test_the_files_are_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = init("reviews")
    assert "paft run reviews/run.yaml" in said
    assert sorted(file.name for file in (tmp_path / "reviews").iterdir()) == [
        "rows.jsonl",
        "run.yaml",
        "task.yaml",
        "templates.jsonl",
        "test.jsonl",
    ]
    config = load_config("reviews/run.yaml")
    seeds, _ = check_inputs(ResolvedRun.of(config))
    assert (config.name, len(seeds)) == ("reviews", 10)
    assert len((tmp_path / "reviews/run.yaml").read_text().splitlines()) <= 15


def test_nothing_of_a_user_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    init("mine")
    with pytest.raises(UserError, match="mine is there and not empty"):
        init("mine")


@pytest.mark.parametrize("name", ["", "../up", "a/b", "x" * 65, "ü"])
def test_names_that_no_run_can_have(name: str) -> None:
    with pytest.raises(UserError, match="no name of a run"):
        init(name)
