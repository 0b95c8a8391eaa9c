"""A run directory is self-contained: commands on it need neither its configuration nor its task, rows or templates."""

import json
import pickle
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from paft_ray.cli.main import main
from paft_ray.config import input_key, load_config, weights_key
from paft_ray.errors import UserError
from paft_ray.models.identity import model_identity
from paft_ray.stages.evaluate import Evaluation
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.store import Store
from tests.support.own_task import write_own_task
from tests.unit.cli.test_export import base_model, measure, trained_run

SETTINGS = ["score.enabled=false", "train.arms=[sft,paft]", "report.num_bootstrap=50"]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a task of one's own; the tests start in it."""
    folder = write_own_task(tmp_path, str(base_model(tmp_path / "base")))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def stored(own: Path) -> ResolvedRun:
    """A run of that task that was only written, without any stage."""
    resolved = ResolvedRun.of(load_config("run.yaml"))
    resolved.write()
    return resolved


def paft(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def test_a_stored_run_is_loaded_as_it_was_from_anywhere(
    stored: ResolvedRun, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(stored.store.read_bytes("config.json"))["task"] == stored.config.task == "my task.yaml"
    for name in ("my task.yaml", "run.yaml", "tickets.jsonl", "wordings.jsonl", "held out.jsonl"):
        (own / name).unlink()
    monkeypatch.chdir(tmp_path)
    found = ResolvedRun.load(Store(stored.store.root))
    assert (found.config, found.task) == (stored.config, stored.task)
    assert list(found.task.labels) == list(stored.task.labels), "their order decides the order of answers"
    assert found.with_model().model.path == str((tmp_path / "base").resolve())
    assert found.with_model().model_key == json.loads(json.dumps(stored.with_model().model_key))


def test_the_labels_keep_their_order(tmp_path: Path, own: Path) -> None:
    task = Path("my task.yaml").read_text().replace("[billing, technical]", "[technical, billing]")
    Path("my task.yaml").write_text(task)
    resolved = ResolvedRun.of(load_config("run.yaml"))
    resolved.write()
    assert ResolvedRun.load(resolved.store).task.label_texts == ("technical", "billing")


def test_it_is_frozen_and_travels(stored: ResolvedRun) -> None:
    sent = pickle.loads(pickle.dumps(stored.with_model()))  # noqa: S301 (of this test)
    assert (sent.config, sent.task, sent.models, sent.store.root) == (
        stored.config,
        stored.task,
        stored.with_model().models,
        stored.store.root,
    )
    with pytest.raises(AttributeError):
        sent.task = None


def test_a_folder_that_was_moved_with_its_runs_is_still_good(
    stored: ResolvedRun, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = own.rename(tmp_path / "moved")
    (moved / "model").unlink()
    base_model(moved / "model")
    (tmp_path / "base").rename(tmp_path / "gone")
    monkeypatch.chdir(moved)
    assert ResolvedRun.load(Store("runs/own")).with_model().model.path == str(moved / "model")


@pytest.mark.parametrize("said", ["[]", '{"./model": 1}', '{"./model": "not/absolute"}', '{"./model": "/a\\u0000b"}'])
def test_places_of_models_that_say_nothing_are_left_out(stored: ResolvedRun, own: Path, said: str) -> None:
    stored.store.write_bytes("model_folders.json", said.encode())
    assert ResolvedRun.load(stored.store).with_model().model.path == str((own / "model").resolve())


@pytest.mark.parametrize(
    ("file", "said", "line"),
    [
        ("config.json", None, r"config\.json is missing; give the folder of a run that `paft` made"),
        ("task.json", None, r"task\.json is missing; start `paft run`"),
        ("task.json", "[]", r"task\.json: not a task \(task: .*\); restore it"),
        ("task.json", '{"name": "x"}', r"task\.json: not a task \(description: Field required\); restore it"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(stored: ResolvedRun, file: str, said: str | None, line: str) -> None:
    stored.store.delete(file)
    if said is not None:
        stored.store.write_bytes(file, said.encode())
    with pytest.raises(UserError, match=line) as caught:
        ResolvedRun.load(stored.store)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", [("report",), ("compare", "{run}"), ("audit",), ("export", "--out", "out")])
def test_a_run_of_an_older_version_is_one_line(
    stored: ResolvedRun, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    stored.store.write_json("prompts/manifest.json", {})
    name, *others = (part.format(run="b") for part in command)
    code, _, err = paft(capsys, name, stored.store.root, *others)
    assert (code, err.count("\n")) == (2, 1)
    if name in ("report", "compare"):
        assert "made by an older version of paft (stage synthesize has the folder prompts)" in err


def test_stages_do_not_go_on_with_a_run_of_an_older_version(
    stored: ResolvedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    stored.store.write_json("data/manifest.json", {})
    code, _, err = paft(capsys, "prepare", "run.yaml", "--set", "data.num_test=4", "--set", "data.num_validation=4")
    assert code == 2
    assert "made by an older version of paft (stage prepare has the folder data)" in err


def finished(own: Path, made: Path, settings: Sequence[str] = ()) -> Store:
    """A made-up finished run of the own task, whose model is `./model`."""
    run = trained_run(made)
    measure(run)
    resolved = ResolvedRun.of(load_config("run.yaml", [*SETTINGS, *settings]), run)
    manifest = run.read_json("train/manifest.json")
    manifest["key"] |= {
        "model": {**input_key(resolved.config.model), "identity": model_identity("./model", None, "model")},
        "task": resolved.task_key,
        "train": weights_key(resolved.config.train),
    }
    run.write_json("train/manifest.json", manifest)
    rows = [{"id": str(n), "fields": {"ticket": f"row {n}"}, "answer": "billing"} for n in range(10)]
    run.write_table("prepare/test.parquet", pa.Table.from_pylist(rows))
    resolved.write()
    return run


def test_commands_on_a_run_need_nothing_that_it_was_made_from(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [finished(own, tmp_path / name) for name in ("a", "b")]
    for name in ("my task.yaml", "run.yaml", "tickets.jsonl", "wordings.jsonl", "held out.jsonl"):
        (own / name).unlink()
    monkeypatch.chdir(tmp_path)
    root = runs[0].root
    for command in (("export", root, "--out", tmp_path / "out"), ("compare", root, runs[1].root), ("report", root)):
        assert paft(capsys, *command)[::2] == (0, ""), command
    assert (tmp_path / "out" / "README.md").is_file()
    assert runs[0].read_json("report/results.json")["arms"]["paft"]["num_templates"] == 12
    assert "left no audit log" in paft(capsys, "audit", root)[2], "it has read the run"
    (tmp_path / "new.jsonl").write_text('{"text": "Which team?\\n{ticket}\\nTeam:", "group": "plain"}\n')
    (tmp_path / "rows.jsonl").write_text('{"ticket": "it broke", "team": "technical"}\n')
    asked: list[Any] = []

    def reached(resolved: ResolvedRun, models: Any, templates: Any, examples: Any, parts: Any) -> None:
        asked.append((resolved.model.path, [example.answer for example in examples]))
        raise UserError("the engine")

    monkeypatch.setattr("paft_ray.stages.evaluate.evaluate_models", reached)
    without_ray(monkeypatch)
    files = ("--templates", tmp_path / "new.jsonl", "--test", tmp_path / "rows.jsonl")
    assert "paft: the engine" in paft(capsys, "evaluate", root, *files, "--out", tmp_path / "own")[2]
    assert asked == [(str((tmp_path / "base").resolve()), ["technical"])]
    made = Evaluation(outcomes=pa.table({"a": [1]}), answers=pa.table({"text": ["x"]}), speed={}, manifest={})
    monkeypatch.setattr("paft_ray.stages.evaluate.evaluate_models", lambda *_: made)
    monkeypatch.setattr("paft_ray.report.render.write_report", lambda *_, measured, **__: asked.append(measured))
    assert paft(capsys, "evaluate", root, *files, "--out", tmp_path / "own")[0] == 0
    assert [e.provenance for e in asked[-1].templates.entries] == [{"source": "user", "group": "plain"}]
    assert Store(str(tmp_path / "own")).read_table("answers.parquet").to_pylist() == [{"text": "x"}]


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """`evaluate RUN` gets as far as its engine without a cluster."""
    monkeypatch.setattr("paft_ray.cli.evaluate_run.ray_session", lambda address=None: nullcontext())
    monkeypatch.setattr("paft_ray.cli.resources.alive_nodes", lambda: [{"CPU": 99}])


def test_settings_of_a_run_are_not_changed_by_its_report(
    stored: ResolvedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = paft(capsys, "report", stored.store.root, "--set", "report.threshold=0.5")
    assert (code, err.count("\n"), "leave --set and --dry-run out" in err) == (2, 1, True)
