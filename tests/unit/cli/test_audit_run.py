"""`paft audit RUN` on made-up runs: what it says of a good log, of a bad one, of none, and of inputs that have
changed."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from paft_ray.cli.audit import audit
from paft_ray.cli.main import main
from paft_ray.config import Over, parse_config, weights_key
from paft_ray.errors import UserError
from paft_ray.prompts.grouping import groups, groups_key
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.sampling import make_draw
from paft_ray.prompts.template import PromptTemplate
from paft_ray.storage.artifacts import ROWS, training_result
from paft_ray.storage.manifests import ModelKey
from paft_ray.storage.outputs import manifest_path
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example
from paft_ray.training.audit import Training
from paft_ray.training.audit_log import SCHEMA, audit_store
from tests.support.made_stage import finish_stage, prepared, synthesized
from tests.unit.training.test_audit import training, used

PROMPTS = PromptSet.of(
    Entry(template=PromptTemplate(text=f"{{text}} {word}?"), cluster=number // 2)
    for number, word in enumerate(["good", "bad", "so", "or", "not"])
)
SETTINGS = {"num_epochs": 2.5, "global_batch": 4, "micro_batch": 2, "seeds": [3], "arms": ["paft"]}


def made(
    folder: Path,
    *,
    sweep: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    over: Over | None = None,
) -> tuple[Store, Training]:
    """A run with one finished training (a trial of its sweep, where `sweep` is given) and what that training had to
    use. `over`: what both draw first."""
    run = Store(str(folder))
    config = parse_config(
        {
            "name": folder.name,
            "task": "demo",
            "score": {"enabled": False},
            "train": {**SETTINGS, "sampling": {"type": "per_example", "over": over}},
            "sweep": sweep or {},
        },
        source="test",
    )
    of = training(n=10, epochs=2.5, batch=4, templates=5, seed=3)
    run.write_json("config.json", config.model_dump(mode="json"))
    prepared(run, {"train": [Example(id=e, fields={"text": e}, answer="positive") for e in of.example_ids]})
    synthesized(run, PROMPTS)
    data, place = ROWS["train"].key(run), "train/paft-s3"
    manifest: dict[str, Any] = {
        "arm": "paft",
        "key": {
            "train": weights_key(config.train),
            "seed": 3,
            "data": data,
            "prompts": PROMPTS.content_hash,
            **groups_key(PROMPTS, over),
        },
    }
    templates = PROMPTS
    if sweep is not None:
        place, templates = "sweep/size3-subset1", PROMPTS.take(3, 1)
        inputs = {"train": weights_key(config.train), "seed": 3, "data": {"train": data}}
        own = groups_key(templates, over)
        key = {"inputs": inputs, "settings": settings or {}, "prompts": templates.content_hash, **own}
        manifest = {"num_templates": 3, "subset_seed": 1, "key": key}
    finish_stage(run, place, training_result(place).write(run, {"fingerprint": "f"}), **manifest)
    draw = make_draw(config.train.sampling, seed=3, groups=groups(templates, over))
    return run, Training(**{**vars(of), "draw": draw, "templates": [template.id for template in templates.templates]})


def log(run: Store, of: Training, place: str = "train/paft-s3", *, without: int | None = None) -> None:
    rows = [row for row in used(of) if row["position"] != without]
    audit_store(run.below(place), "f").write_table(
        "steps-00000000-00000007.parquet", pa.Table.from_pylist(rows, schema=SCHEMA)
    )


def ends(capsys: pytest.CaptureFixture[str], run: Store) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["audit", run.root])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def test_a_good_log_is_a_row_of_zeros_and_exit_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, of = made(tmp_path / "r")
    log(run, of)
    code, out, err = ends(capsys, run)
    assert (code, err) == (0, "")
    cells = [
        cell.strip() for cell in next(line for line in out.splitlines() if "paft-s3" in line).strip("│").split("│")
    ]
    assert cells == ["train/paft-s3", "7", "28", "2.5", "0", "0", "0"]


def test_an_arm_that_the_run_has_no_more_is_not_audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, of = made(tmp_path / "r")
    log(run, of)
    for folder in ("train", "train/sft-s3"):
        run.write_json(manifest_path(folder), {})
    monkeypatch.setattr("paft_ray.cli.audit.trained_models", lambda run: [SimpleNamespace(key=ModelKey("paft", 3))])
    monkeypatch.setattr("paft_ray.cli.audit.check_intact", lambda run: None)
    assert list(audit(run)) == ["train/paft-s3"]


def test_a_lost_row_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, of = made(tmp_path / "r")
    log(run, of, without=9)
    assert ends(capsys, run)[0] == 1
    assert audit(run)["train/paft-s3"].lost == 1


def test_a_trial_of_a_sweep_is_audited_with_its_own_templates_and_settings(tmp_path: Path) -> None:
    run, of = made(tmp_path / "r", sweep={"sizes": [3], "subset_seeds": [1]})
    log(run, of, "sweep/size3-subset1")
    assert audit(run)["sweep/size3-subset1"].agrees
    run, of = made(tmp_path / "other", sweep={"sizes": [3], "subset_seeds": [1]}, settings={"num_epochs": 1.0})
    log(run, of, "sweep/size3-subset1")
    assert audit(run)["sweep/size3-subset1"].differing == 18, "rows of the second and third epoch, where one was due"


@pytest.mark.parametrize("sweep", [None, {"sizes": [3], "subset_seeds": [1]}])
def test_draws_over_clusters_are_derived_again_from_the_prompt_set(
    sweep: dict[str, Any] | None, tmp_path: Path
) -> None:
    place = "train/paft-s3" if sweep is None else "sweep/size3-subset1"
    run, of = made(tmp_path / "r", sweep=sweep, over="cluster")
    log(run, of, place)
    assert audit(run)[place].agrees
    run, of = made(tmp_path / "other", sweep=sweep)
    log(run, made(tmp_path / "drawn-otherwise", sweep=sweep, over="cluster")[1], place)
    assert audit(run)[place].differing > 0, "the manifest says that templates were drawn"


def _other_clusters(run: Store) -> None:
    synthesized(run, PromptSet(tuple(replace(entry, cluster=7) for entry in PROMPTS.entries)))


def test_clusters_that_are_not_those_of_the_training_are_refused_where_they_decide_the_draw(tmp_path: Path) -> None:
    run, of = made(tmp_path / "r", over="cluster")
    log(run, of)
    _other_clusters(run)
    with pytest.raises(UserError, match="not the one that train/paft-s3 was trained with"):
        audit(run)
    run, of = made(tmp_path / "templates")
    log(run, of)
    _other_clusters(run)
    assert audit(run)["train/paft-s3"].agrees


def _no_log(run: Store) -> None:
    run.delete("train/paft-s3/audit")


def _no_training(run: Store) -> None:
    run.delete("train/paft-s3")


def _other_data(run: Store) -> None:
    prepared(run, {"train": [Example(id="a", fields={"text": "a"}, answer="positive")]})


def _other_prompts(run: Store) -> None:
    synthesized(run, PROMPTS.take(4, 0))


def _old_manifest(run: Store) -> None:
    run.write_json("train/paft-s3/manifest.json", {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_no_log, "left no audit log"),
        (_no_training, "no finished training there"),
        (_other_data, "prepare/train.parquet is not what train/paft-s3 was trained on"),
        (_other_prompts, "not the one that train/paft-s3 was trained with"),
        (_old_manifest, "train/paft-s3/manifest.json is no manifest of stage train"),
    ],
)
def test_what_cannot_be_audited_is_one_line_and_exit_code_2(
    change: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, of = made(tmp_path / "r")
    log(run, of)
    change(run)
    code, _, err = ends(capsys, run)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
