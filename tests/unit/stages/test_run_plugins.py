"""Plugins of runs: the user's configuration names their files, a run never does."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from paft_ray.config import load_config
from paft_ray.errors import UserError
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.store import Store
from paft_ray.tasks.graders.plugins import GROUP
from tests.support.made_stage import finish_stage
from tests.support.own_task import write_own_task
from tests.unit.cli.test_export import base_model
from tests.unit.stages.test_resolved_run import finished, paft, without_ray
from tests.unit.tasks.graders.test_plugins import PLUGIN

MINE = "my grader.py"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a task whose answers a plugin judges; it notes when it is run. The tests start there."""
    folder = write_own_task(tmp_path, str(base_model(tmp_path / "base")))
    monkeypatch.chdir(folder)
    task = Path("my task.yaml").read_text()
    Path("my task.yaml").write_text(task.replace("kind: choice", "grader: {type: mine}"))
    Path(MINE).write_text(PLUGIN + f"\nopen({str(tmp_path / 'ran')!r}, 'a').close()\n")
    return folder


def resolved(*plugins: str) -> ResolvedRun:
    return ResolvedRun.of(load_config("run.yaml", [f"plugins={json.dumps(plugins or [MINE])}"]))


def test_the_configuration_of_a_run_stores_path_and_hash(own: Path) -> None:
    run = resolved()
    run.write()
    (plugin,) = json.loads(run.store.read_bytes("config.json"))["plugins"]
    assert plugin == f"{MINE}#sha256={run.task.grader_identity['sha256']}"
    assert resolved(plugin).config == run.config
    assert "#sha256" not in run.store.read_bytes("task.json").decode()


def test_the_keys_of_stages_that_judge_hold_the_hash_and_those_that_do_not_hold_none(own: Path) -> None:
    before = resolved()
    Path(MINE).write_text(PLUGIN)
    after = resolved()
    assert before.grader_key["grader"] != after.grader_key["grader"]
    assert before.task_key == after.task_key
    Path("my task.yaml").write_text(Path("my task.yaml").read_text().replace("grader: {type: mine}", "kind: choice"))
    assert resolved().grader_key == {}


def test_a_changed_file_is_refused_where_the_configuration_holds_its_hash(own: Path) -> None:
    (plugin,) = resolved().config.plugins
    Path(MINE).write_text(PLUGIN)
    with pytest.raises(UserError, match=rf"plugin {MINE}: its SHA-256 is .* is asked for"):
        resolved(plugin)


@pytest.mark.parametrize(
    ("plugin", "line"),
    [
        ("missing.py", "plugin missing.py: cannot be read"),
        ("run.yaml", "plugins: the path of a Python file is needed"),
        ("s3://bucket/mine.py", "plugins: the path of a Python file is needed"),
        ("my grader.py#sha256=abc", "plugins: 64 hex digits are needed"),
    ],
)
def test_what_is_no_plugin_is_refused(own: Path, plugin: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        resolved(plugin)


def test_a_loaded_run_runs_no_file_that_its_configuration_names(own: Path, tmp_path: Path) -> None:
    resolved().write()
    run = ResolvedRun.load(resolved().store)
    assert run.config.plugins
    with pytest.raises(UserError, match="no grader 'mine'"):
        _ = run.task.grader
    assert run.task.label_texts == ("billing", "technical")
    assert not (tmp_path / "ran").exists()
    assert run.with_plugins([MINE]).task.grader.labels == run.task.label_texts
    assert (tmp_path / "ran").exists()


def test_a_run_is_judged_by_the_file_that_it_was_made_with_alone(own: Path) -> None:
    resolved().write()
    run = ResolvedRun.load(resolved().store)
    with pytest.raises(UserError, match=rf"give the same file, --plugins FILE: {MINE} \("):
        run.with_plugins([])
    Path("other.py").write_text(PLUGIN)
    with pytest.raises(UserError, match=rf"--plugins other.py: its SHA-256 is .*, run .* was made with {MINE} \("):
        run.with_plugins(["other.py"])
    Path(MINE).rename("moved.py")
    assert run.with_plugins(["moved.py"]).grader_key == run.with_plugins(["moved.py"]).grader_key != {}


def test_a_run_travels_with_its_plugins(own: Path) -> None:
    run = pickle.loads(pickle.dumps(resolved()))  # noqa: S301 (its own)
    Path(MINE).unlink()
    assert run.task.grader.parse(" billing ") == "billing"


def test_commands_that_judge_nothing_need_no_plugin_and_evaluate_asks_for_it(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [finished(own, tmp_path / name, [f"plugins=[{MINE}]"]) for name in ("a", "b")]
    Path(MINE).rename(tmp_path / MINE)
    monkeypatch.chdir(tmp_path)
    root = runs[0].root
    for command in (("export", root, "--out", tmp_path / "out"), ("compare", root, runs[1].root), ("report", root)):
        assert paft(capsys, *command)[::2] == (0, ""), command
    (tmp_path / "new.jsonl").write_text('{"text": "Which team?\\n{ticket}\\nTeam:"}\n')
    (tmp_path / "rows.jsonl").write_text('{"ticket": "it broke", "team": "technical"}\n')
    asked: list[Any] = []

    def reached(resolved: ResolvedRun, *_: Any) -> None:
        asked.append(resolved.task.grader.parse(" billing"))
        raise UserError("the engine")

    monkeypatch.setattr("paft_ray.stages.evaluate.evaluate_models", reached)
    without_ray(monkeypatch)
    command = ("evaluate", root, "--templates", "new.jsonl", "--test", "rows.jsonl", "--out", "own")
    code, _, said = paft(capsys, *command)
    assert (code, said.count("\n"), asked) == (2, 1, [])
    assert f"give the same file, --plugins FILE: {MINE}" in said
    assert "paft: the engine" in paft(capsys, *command, "--plugins", MINE)[2]
    assert asked == ["billing"]
    (tmp_path / MINE).write_text(PLUGIN + "# changed")
    assert "was made with" in paft(capsys, *command, "--plugins", MINE)[2]


@pytest.fixture
def package(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package whose grader judges the task; a module beside its entry."""
    site = tmp_path / "site"
    (site / "mine-1.0.dist-info").mkdir(parents=True)
    (site / "mine-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (site / "mine-1.0.dist-info/entry_points.txt").write_text(f"[{GROUP}]\nmine = a_grader_of_mine.entry:Mine\n")
    (site / "a_grader_of_mine").mkdir()
    (site / "a_grader_of_mine/__init__.py").write_text("")
    (site / "a_grader_of_mine/entry.py").write_text(PLUGIN)
    (site / "a_grader_of_mine/rules.py").write_text("LIMIT = 3\n")
    monkeypatch.syspath_prepend(str(site))
    for name in ("a_grader_of_mine", "a_grader_of_mine.entry"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return site


@pytest.mark.parametrize("stage", ["evaluate", "score"])
def test_a_run_is_judged_by_the_package_that_judged_it_and_by_no_other(
    stage: str, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished(Path.cwd(), tmp_path / "a")
    identity = ResolvedRun.load(run).task.grader_identity
    assert identity["package"] == "mine 1.0"
    finish_stage(run, stage, {}, key={"grader": identity}, best="of stage score")

    def reached(*_: Any) -> None:
        raise UserError("the engine")

    monkeypatch.setattr("paft_ray.stages.evaluate.evaluate_models", reached)
    without_ray(monkeypatch)
    (tmp_path / "new.jsonl").write_text('{"text": "Which team?\\n{ticket}\\nTeam:"}\n')
    (tmp_path / "rows.jsonl").write_text('{"ticket": "it broke", "team": "technical"}\n')
    files = ("--templates", tmp_path / "new.jsonl", "--test", tmp_path / "rows.jsonl", "--out", tmp_path / "out")
    assert "paft: the engine" in paft(capsys, "evaluate", run.root, *files)[2]
    (package / "a_grader_of_mine/rules.py").write_text("LIMIT = 4\n")
    code, _, said = paft(capsys, "evaluate", run.root, *files)
    assert (code, said.count("\n")) == (2, 1)
    assert f"stage {stage} judged its answers with the grader of mine 1.0 (SHA-256 {identity['sha256'][:16]}…)" in said


def test_plugins_that_a_tampered_run_names_are_not_run(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Store = finished(own, tmp_path / "a", [f"plugins=[{MINE}]"])
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\nGRADERS = {{}}\n")
    config = run.read_json("config.json")
    run.write_json("config.json", {**config, "plugins": [str(evil)]})
    for command in (("report", run.root), ("audit", run.root), ("export", run.root, "--out", tmp_path / "out")):
        paft(capsys, *command)
    rows = ("--templates", "wordings.jsonl", "--test", "tickets.jsonl", "--out", tmp_path / "own")
    assert paft(capsys, "evaluate", run.root, *rows)[0] == 2
    assert not (tmp_path / "owned").exists()
