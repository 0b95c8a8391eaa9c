"""Whatever is broken in a run ends in one line that names the file, and exit code 2: file x damage x command."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from paft_ray.cli.main import main
from paft_ray.storage.artifacts import stage_manifest
from paft_ray.storage.outputs import damage as find_damage
from paft_ray.storage.outputs import file_digest, write_files
from paft_ray.storage.store import Store, table_bytes
from tests.support.finished_run import finished_run, run_config

Damage = Callable[[Path], None]
READERS: dict[str, tuple[str, ...]] = {
    "evaluate/outcomes.parquet": ("report", "compare", "export", "audit"),
    "evaluate/speed.json": ("report", "compare", "export", "audit"),
    "evaluate/manifest.json": ("report", "compare", "export", "audit"),
    "synthesize/prompt_set.parquet": ("report", "compare", "export", "audit", "show"),
    "synthesize/manifest.json": ("report", "compare", "export", "audit", "show"),
    "prepare/test.parquet": ("report", "compare", "export", "audit"),
    "prepare/train.parquet": ("audit",),
    "prepare/manifest.json": ("report", "compare", "export", "audit"),
    "score/scores.parquet": ("report", "audit"),
    "score/manifest.json": ("report", "audit"),
    "train/manifest.json": ("report", "export", "evaluate", "audit"),
    "train/paft-s0/manifest.json": ("audit",),
    "train/paft-s0/metrics.jsonl": ("report", "audit"),
    "train/paft-s0/result.json": ("audit",),
    "train/paft-s0/weights/model.safetensors": ("export", "evaluate", "audit"),
    "train/paft-s0/weights/config.json": ("export", "evaluate", "audit"),
    "config.json": ("compare", "export", "audit", "evaluate"),
}
"""File of a run -> commands that read it."""


def remove(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_bytes(b"")


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: len(file.read_bytes()) // 2])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 128
    file.write_bytes(data)


def of_json(value: object) -> Damage:
    def damage(file: Path) -> None:
        file.write_text(json.dumps(value))

    damage.__name__ = json.dumps(value)
    return damage


def with_entry(name: str, value: object) -> Damage:
    def damage(file: Path) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))

    damage.__name__ = f"{name}={value!r:.40}"
    return damage


def without_entry(name: str) -> Damage:
    def damage(file: Path) -> None:
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != name}))

    damage.__name__ = f"without {name}"
    return damage


ANY = (remove, empty, truncate, flip)
MANIFEST = (
    *(empty, truncate),
    *map(of_json, ([], None, 3, "x", {})),
    *map(without_entry, ("key", "time_s", "outputs")),
    *(with_entry("time_s", float("nan")), with_entry("time_s", -1), with_entry("key", []), with_entry("outputs", [])),
    with_entry("outputs", {"a": "b"}),
    *(with_entry("outputs", {path: "a" * 64}) for path in ("", "a\0", "/etc/passwd", "a" * 5000)),
)
ARM = (empty, truncate, *map(of_json, ([], None, 3, {})), without_entry("key"), with_entry("key", {"train": 3}))


def damages(path: str) -> tuple[Damage, ...]:
    if path == "train/paft-s0/manifest.json":
        return ARM
    if path.endswith("/manifest.json"):
        return MANIFEST
    return (empty, truncate, *map(of_json, ([], None, 3))) if path == "config.json" else ANY


CASES = [
    pytest.param(path, damage, command, id=f"{path} {damage.__name__} {command}")
    for path, commands in READERS.items()
    for damage in damages(path)
    for command in commands
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    finished_run(folder)
    finished_run(folder, "other")
    (folder / "run.yaml").write_text(yaml.safe_dump(run_config(folder, "copy").model_dump(mode="json")))
    (folder / "t.jsonl").write_text('{"text": "Is this good? {text}"}\n')
    (folder / "rows.jsonl").write_text('{"text": "a film", "label": "positive"}\n')
    return folder


def arguments(command: str, made: Path, out: Path) -> list[str]:
    run = str(made / "copy")
    return {
        "report": ["report", str(made / "run.yaml")],
        "compare": ["compare", run, str(made / "other")],
        "export": ["export", run, "--arm", "paft", "--out", str(out / "out")],
        "audit": ["audit", run],
        "show": ["prompts", "show", run],
        "evaluate": [
            "evaluate",
            run,
            "--templates",
            str(made / "t.jsonl"),
            "--test",
            str(made / "rows.jsonl"),
            "--out",
            str(out / "out"),
        ],
    }[command]


def ended(capsys: pytest.CaptureFixture[str], words: list[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return int(stopped.value.code or 0), capsys.readouterr().err


@pytest.fixture
def copy(made: Path) -> Store:
    shutil.rmtree(made / "copy", ignore_errors=True)
    shutil.copytree(made / "run", made / "copy")
    return Store(str(made / "copy"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("path", "damage", "command"), CASES)
def test_a_damaged_file_is_named_in_one_line(
    path: str,
    damage: Damage,
    command: str,
    made: Path,
    copy: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy.delete("report/manifest.json")  # a finished report reads less
    damage(Path(copy.path(path)))
    code, err = ended(capsys, arguments(command, made, tmp_path))
    assert (code, err.count("\n")) == (2, 1), err
    assert path in err
    assert "Error" not in err.split(path)[0], "no name of a Python exception"
    assert not (tmp_path / "out").exists()


def test_a_good_run_passes(made: Path, copy: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("compare", "export", "show"):
        code, err = ended(capsys, arguments(command, made, tmp_path))
        assert code == 0, err


@pytest.mark.parametrize("path", ["report/results.json", "train/paft-s0/weights/README.md", "report/manifest.json"])
def test_the_audit_verifies_the_report_too(
    path: str, made: Path, copy: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truncate(Path(copy.path(path)))
    code, err = ended(capsys, arguments("audit", made, tmp_path))
    assert (code, err.count("\n")) == (2, 1), err
    assert path in err


def test_the_audit_names_everything_that_is_broken(
    made: Path, copy: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A torn last line of metrics.jsonl among it."""
    metrics = Path(copy.path("train/sft-s0/metrics.jsonl"))
    metrics.write_bytes(metrics.read_bytes()[:-3])
    empty(Path(copy.path("evaluate/manifest.json")))
    flip(Path(copy.path("score/scores.parquet")))
    code, err = ended(capsys, arguments("audit", made, tmp_path))
    assert (code, err.count("\n")) == (2, 1), err
    for path in ("train/sft-s0/metrics.jsonl is damaged", "evaluate/manifest.json", "score/scores.parquet is damaged"):
        assert err.count(path) == 1


@pytest.mark.parametrize("path", ["report/results.json", "report/report.html", "report/report.md"])
@pytest.mark.parametrize("damage", [remove, truncate, flip])
def test_a_finished_report_that_is_damaged_is_made_again(
    path: str, damage: Damage, made: Path, copy: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(capsys, arguments("report", made, tmp_path))[0] == 0
    damage(Path(copy.path(path)))
    with pytest.raises(SystemExit) as stopped:
        main(arguments("report", made, tmp_path))
    assert not stopped.value.code
    assert f"{path} is" in "".join(capsys.readouterr())
    assert find_damage(copy, stage_manifest(copy, "report")["outputs"]) is None


@pytest.mark.parametrize("command", ["report", "compare"])
@pytest.mark.parametrize(("entry", "stage"), [("models", "train"), ("prompts", "synthesize"), ("data", "prepare")])
def test_figures_of_other_weights_templates_or_rows_are_not_shown(
    entry: str, stage: str, command: str, made: Path, copy: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = copy.read_json("evaluate/manifest.json")
    copy.write_json("evaluate/manifest.json", {**manifest, "key": {entry: "of another stage"}})
    page = file_digest(copy, "report/report.html")
    code, err = ended(capsys, arguments(command, made, tmp_path))
    assert (code, err.count("\n")) == (2, 1), err
    assert f"evaluate/manifest.json is of other {entry} than {stage}/manifest.json names now; run stage eval" in err
    assert file_digest(copy, "report/report.html") == page


def signed(run: Store, path: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Changes a table together with its digest in the manifest of its stage."""
    name = f"{path.split('/')[0]}/manifest.json"
    manifest = run.read_json(name)
    outputs = write_files(run, {path: table_bytes(change(pq.read_table(run.path(path))))})
    run.write_json(name, {**manifest, "outputs": {**manifest["outputs"], **outputs}})


def replaced(name: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        return table.set_column(place, table.schema.field(name), pa.array([value] * table.num_rows, pa.string()))

    return change


@pytest.mark.parametrize("command", ["report", "compare"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table: pa.concat_tables([table, table]), "come more than once"),
        (lambda table: table.filter(pc.not_equal(table["arm"], "base")).slice(0, 100), "no outcomes for template"),
        (replaced("answer", None), "answer: "),
    ],
    ids=["twice", "half", "without answers"],
)
def test_outcomes_that_make_no_figures_are_refused(
    change: Callable[[pa.Table], pa.Table],
    reason: str,
    command: str,
    made: Path,
    copy: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy.delete("report/manifest.json")
    signed(copy, "evaluate/outcomes.parquet", change)
    code, err = ended(capsys, arguments(command, made, tmp_path))
    assert (code, err.count("\n")) == (2, 1), err
    assert reason in err
    assert "run stage evaluate again" in err
    assert not copy.exists("logs")


@pytest.mark.parametrize("command", ["report", "compare", "show"])
def test_a_template_of_no_split_is_refused(
    command: str, made: Path, copy: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy.delete("report/manifest.json")
    signed(copy, "synthesize/prompt_set.parquet", replaced("split", "test"))
    code, err = ended(capsys, arguments(command, made, tmp_path))
    assert (code, err.count("\n")) == (2, 1), err
    assert "split: given 'test', allowed: train, held_out" in err


@pytest.mark.parametrize("command", ["report", "compare"])
@pytest.mark.parametrize("path", ["evaluate/outcomes.parquet", "evaluate/manifest.json"])
@pytest.mark.parametrize("kind", ["folder", "link to itself"])
def test_what_is_no_file_is_refused_by_its_path(
    kind: str, path: str, command: str, made: Path, copy: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy.delete("report/manifest.json")
    file = Path(copy.path(path))
    file.unlink()
    if kind == "folder":
        file.mkdir()
    else:
        file.symlink_to(file.name)
    code, err = ended(capsys, arguments(command, made, tmp_path))
    assert (code, err.count("\n")) == (2, 1), err
    assert f"{path} is {'not a regular file; delete it' if kind == 'folder' else 'missing'}" in err


@pytest.mark.parametrize(
    ("folder", "command", "remedy"),
    [
        ("evaluate", "report", "delete evaluate/manifest.json and run stage evaluate again"),
        (
            "train/paft-s0",
            "audit",
            "delete train/paft-s0/manifest.json and train/manifest.json and run stage train again",
        ),
    ],
)
def test_the_remedy_for_a_manifest_without_outputs_lets_the_stage_run(
    folder: str, command: str, remedy: str, made: Path, copy: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the manifest there, the stage counts as finished and running it again changes nothing."""
    with_entry("outputs", {})(Path(copy.path(f"{folder}/manifest.json")))
    code, err = ended(capsys, arguments(command, made, tmp_path))
    assert (code, err.count("\n")) == (2, 1), err
    assert remedy in err


@pytest.mark.parametrize(("entry", "value"), [("prompts", {}), ("train", {}), ("train", {"sampling": "x"})])
def test_a_training_that_does_not_say_its_settings_is_not_exported(
    entry: str, value: Any, made: Path, copy: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = copy.read_json("train/manifest.json")
    copy.write_json("train/manifest.json", {**manifest, "key": {**manifest["key"], entry: value}})
    code, err = ended(capsys, arguments("export", made, tmp_path))
    assert (code, err.count("\n")) == (2, 1), err
    assert "train again" in err
    assert not (tmp_path / "out").exists()
