"""`paft robustness`: what is refused before Ray starts, what a dry run says, and the checks for CI."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from paft_ray.cli.main import main
from paft_ray.cli.robustness import Request, _with_primary, config_of
from paft_ray.cli.robustness_checks import (
    Baseline,
    check_comparable,
    check_limits,
    checked,
    junit_xml,
    parse_limits,
    read_baseline,
)
from paft_ray.config import Config, ReportConfig
from paft_ray.errors import UserError
from paft_ray.prompts.template import PromptTemplate
from paft_ray.report.check import Check
from paft_ray.robustness.models import given_models
from paft_ray.storage.store import Store
from paft_ray.tasks.task import content_id, load_task
from tests.support.made_outcomes import outcome_row, outcome_table

VALUES: dict[str, Any] = {
    "confidence": 0.95,
    "arms": {"mine": {"mean": 0.82, "worst": 0.55, "decile": 0.6}},
    "headline": "behavior",
}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["robustness", *arguments])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_a_dry_run_says_what_would_be_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    code, said, _ = run(
        capsys, "demo", "demo:chat", "--task", "demo", "--suite", "all", "--rows", "20", "--out", str(out), "--dry-run"
    )
    assert code == 0
    assert not out.exists()
    assert said.splitlines()[0] == "demo: demo"
    assert "24 plain templates" in said
    assert "20 rows" in said


def test_a_dry_run_counts_what_a_budget_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("https://example.org/v1#big", "--task", "demo", "--rows", "20", "--out", str(tmp_path / "out"))
    code, said, _ = run(capsys, *given, "--budget", "0.25", "--dry-run")
    assert code == 0
    assert "20 rows: 120 answers" in said
    assert "leaves this machine: 120 prompts" in said


def test_an_endpoint_s_key_is_looked_for_before_ray_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    file = tmp_path / "there.yaml"
    file.write_text("id: big\nendpoint: {base_url: 'https://example.org/v1', api_key_env: NO_SUCH_KEY}\n")
    code, _, said = run(capsys, str(file), "--task", "demo", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "the environment variable NO_SUCH_KEY, which holds its key, is not set" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--suite", "nose"], "--suite nose: no suite"),
        (["--fail-below", "wurst=0.4"], "--fail-below wurst=0.4"),
        (["--fail-below", "worst=40"], "--fail-below worst=40"),
        (["--data", "no.jsonl"], "no.jsonl"),
        (["--set", "train.num_steps=3"], "--set train.num_steps=3: a measurement takes no such setting"),
        (["--budget", "0.5", "--suite", "noise"], "--budget"),
        (["--baseline", "no.json"], "--baseline no.json"),
        (["--out", " "], "--out: names no folder"),
        (["--suite", "noise", "--fail-below", "worst=0.5"], "at least 12 are needed; limit worst_case"),
        (["--budget", "0.5", "--fail-below", "decile=0.5"], "--fail-below decile: with --budget only the mean"),
        (["--junit", "s3://bucket/junit.xml"], "--junit s3://bucket/junit.xml: is written to this machine"),
    ],
)
def test_bad_input_is_one_line(
    given: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, said = run(capsys, "demo", "--task", "demo", "--out", str(tmp_path / "out"), *given)
    assert (code, len(said.splitlines())) == (2, 1)
    assert named in said
    assert not (tmp_path / "out").exists()


def test_ray_is_not_imported_before_its_settings_are_made() -> None:
    """Its token is read when it is imported: a local Ray would refuse its own driver."""
    code = "import sys, paft_ray.cli.robustness, paft_ray.robustness.groups; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_setting_that_is_given_stands() -> None:
    given = Request(
        models=("demo",),
        task="demo",
        suite=(),
        out="out",
        data=None,
        num_rows=2,
        base=None,
        chat=False,
        overrides=("evaluate.budget=0.5", "seed=3"),
        fail_below=None,
        baseline=None,
        junit=None,
    )
    config = config_of(given)
    assert (config.evaluate.budget, config.evaluate.latency_sample_rows, config.seed) == (0.5, 0, 3)


def test_the_first_two_models_are_the_primary_comparison() -> None:
    config = Config(name="robustness", task="demo")
    names = ["z=demo", "a=demo", "b=demo"]
    models = given_models(names, base=None, chat=False, config=config, task=load_task("demo"))
    assert _with_primary(config, models).report.primary == "z-a"
    assert _with_primary(config, models[:1]).report.primary is None
    named = config.model_copy(update={"report": ReportConfig(primary="z-b")})
    assert _with_primary(named, models).report.primary == "z-b"
    wrong = config.model_copy(update={"report": ReportConfig(primary="paft-sft")})
    with pytest.raises(UserError, match="paft-sft: no comparison of these models; allowed: b-a, z-a, z-b"):
        _with_primary(wrong, models)


def test_a_folder_of_something_else_is_not_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    code, _, said = run(capsys, "demo", "--task", "demo", "--out", str(tmp_path))
    assert code == 2
    assert "is not empty" in said


def test_limits() -> None:
    assert parse_limits("mean=0.8, worst=0.5") == {"mean": 0.8, "worst": 0.5}
    assert parse_limits(None) == {}
    found = checked(VALUES, {"mean": 0.8, "worst": 0.6}, None, measured(0.9))
    assert [(check.model, check.passed) for check in found] == [("mine", True), ("mine", False)]
    assert found[1].said == "worst 55.0 %, at least 60.0 % wanted"


@pytest.mark.parametrize(("num_templates", "budget"), [(11, 1.0), (12, 0.5)])
def test_a_limit_on_a_figure_that_there_will_not_be_is_refused(num_templates: int, budget: float) -> None:
    check_limits({"worst": 0.5, "decile": 0.5, "worst_case": 0.5, "mean": 0.5}, num_templates=12, budget=1.0)
    check_limits({"mean": 0.5}, num_templates=num_templates, budget=budget)
    with pytest.raises(UserError, match="--fail-below worst: "):
        check_limits({"worst": 0.5}, num_templates=num_templates, budget=budget)


def test_a_figure_that_is_missing_is_not_reached() -> None:
    few = {**VALUES, "arms": {"mine": {"mean": 0.9, "worst": None, "decile": None}}}
    assert not checked(few, {"worst": 0.0}, None, measured(0.9))[0].passed


def test_the_worst_case_is_the_lowest_accuracy_of_any_column() -> None:
    """However few there are; a column without answers is none."""
    right = {"t00": 0.9, "noisy": 0.4, "silent": 0.0}
    rows = [
        outcome_row("mine", template, f"e{e:02}", "yes", said(5 * e, part), seed=-1)
        for template, part in right.items()
        for e in range(20)
    ]
    for row in rows:
        if row["template_id"] == "silent":
            row |= {"behavior": None, "strict": None}
    now = Baseline(path="now", outcomes=outcome_table(rows, labels=("yes", "no")), rows={})
    (check,) = checked(VALUES, {"worst_case": 0.3}, None, now)
    assert (check.passed, check.said) == (True, "worst_case 40.0 %, at least 30.0 % wanted")


def said(number: int, right: float) -> str:
    return "yes" if number % 100 < 100 * right else "no"


def outcomes(right: float, *, num_templates: int = 12, arms: Sequence[str] = ("mine",), seed: int = -1) -> Any:
    """Arms on templates and 30 rows."""
    rows = [
        outcome_row(arm, f"t{t:02}", f"e{e:02}", "yes", said(31 * t + 17 * e, right), seed=seed)
        for arm in arms
        for t in range(num_templates)
        for e in range(30)
    ]
    return outcome_table(rows, labels=("yes", "no"))


def measured(right: float, rows: str = "x", *, path: str = "old.json", **changes: Any) -> Baseline:
    return Baseline(path=path, outcomes=outcomes(right, **changes), rows={f"e{e:02}": f"{rows}{e}" for e in range(30)})


@pytest.mark.parametrize(
    ("then", "now", "passed"),
    [(0.85, 0.9, True), (0.85, 0.85, True), (0.85, 0.4, False), (1.0, 0.0, False), (0.0, 1.0, True)],
)
def test_a_decisive_fall_against_a_baseline_fails(then: float, now: float, passed: bool) -> None:
    (check,) = checked(VALUES, {}, measured(then), measured(now))
    assert check.passed == passed, check.said


def test_few_templates_decide_nothing() -> None:
    (check,) = checked(VALUES, {}, measured(0.9, num_templates=7), measured(0.4, num_templates=7))
    assert check.passed
    assert "no interval: " in check.said


def test_a_model_that_was_trained_with_another_seed_is_compared() -> None:
    (check,) = checked(VALUES, {}, measured(0.85, seed=0), measured(0.4, seed=1))
    assert not check.passed


def test_no_model_s_name_spares_it_the_correction() -> None:
    """`paft-sft` is the comparison of a run that is not corrected."""
    arms = ("paft-sft", "other")
    found = checked({**VALUES, "arms": {}}, {}, measured(0.85, arms=arms), measured(0.8, arms=arms))
    assert len({check.said for check in found}) == 1, "alike, so corrected alike"


def test_rows_that_changed_under_their_ids_are_not_compared() -> None:
    with pytest.raises(UserError, match="has no answer of these models to these templates and rows"):
        checked(VALUES, {}, measured(0.9), measured(0.1, rows="other"))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"models": ["other"]}, r"no model of these names, but mine; name yours alike \(NAME=MODEL\)"),
        ({"templates": ["t99"]}, "none of its templates is in this suite, at least 8 are needed"),
        ({"templates": ["t01", "t02"]}, "2 of its templates are in this suite, at least 8 are needed"),
        ({"rows": {"e00": "other0"}}, "none of these rows"),
    ],
)
def test_a_baseline_of_something_else_is_refused_before_anything_is_asked(changed: dict[str, Any], reason: str) -> None:
    alike: dict[str, Any] = {
        "models": ["mine", "new"],
        "templates": [f"t{t:02}" for t in range(8)],
        "rows": {"e00": "x0", "e99": "y"},
    }
    check_comparable(measured(0.9), **alike)
    check_comparable(measured(0.9), **{**alike, "rows": {}})
    with pytest.raises(UserError, match=f"--baseline old.json: cannot be compared: .*{reason}"):
        check_comparable(measured(0.9), **{**alike, **changed})


@pytest.mark.parametrize(("arm", "refused"), [("demo", False), ("other", True)])
def test_a_dry_run_refuses_a_baseline_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arm: str, refused: bool
) -> None:
    texts = [
        f"{head} it positive or negative? {{text}}\nAnswer:"
        for head in ["Is", "Was", "Seems", "Feels", "Sounds", "Looks"]
    ]
    texts += ["{text}\nPositive or negative, in a word:", "Say positive or negative of this: {text}"]
    templates = [PromptTemplate(text=text) for text in texts]
    (tmp_path / "suite.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    rows = [{"id": f"r{i}", "text": f"film {i}", "label": ("positive", "negative")[i % 2]} for i in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    old = Store.at(str(tmp_path))
    old.write_json("results.json", {})
    old.write_json("rows.json", {row["id"]: content_id({"text": row["text"]}, row["label"]) for row in rows[:1]})
    asked = [outcome_row(arm, t.id, row["id"], row["label"], row["label"]) for t in templates for row in rows]
    old.write_table("outcomes.parquet", outcome_table(asked))
    given = ("--suite", str(tmp_path / "suite.jsonl"), "--data", str(tmp_path / "rows.jsonl"), "--dry-run")
    against = ("--baseline", str(tmp_path / "results.json"), "--out", str(tmp_path / "out"))
    code, _, said = run(capsys, "demo", "--task", "demo", *given, *against)
    assert code == (2 if refused else 0), said
    assert ("no model of these names, but other" in said) == refused


def test_a_baseline_is_of_a_measurement(tmp_path: Path) -> None:
    old = Store.at(str(tmp_path))
    old.write_json("results.json", {})
    old.write_json("rows.json", {})
    old.write_table("outcomes.parquet", pa.table({"arm": [1], "template_id": ["t"], "example_id": ["e"]}))
    with pytest.raises(UserError, match="is not that of a `paft robustness`"):
        read_baseline(str(tmp_path / "results.json"))


def test_a_baseline_is_read_before_its_place_is_written_to(tmp_path: Path) -> None:
    old = Store.at(str(tmp_path))
    path = str(tmp_path / "results.json")
    with pytest.raises(UserError, match=r"--baseline .*: give the results.json of an earlier"):
        read_baseline(path)
    old.write_json("results.json", {})
    old.write_json("rows.json", measured(0.9).rows)
    old.write_table("outcomes.parquet", outcomes(0.9))
    found = read_baseline(path)
    old.write_table("outcomes.parquet", outcomes(0.1))
    (check,) = checked(VALUES, {}, found, measured(0.1))
    assert not check.passed


def test_junit(tmp_path: Path) -> None:
    file = tmp_path / "ci" / "junit.xml"
    passed = Check(model="mine", what="mean >= 0.8", passed=True, said="")
    junit_xml(str(file), [passed, Check(model="<b>&", what="worst >= 0.6", passed=False, said='55 % < "60"')])
    suite = ElementTree.parse(file).getroot()  # noqa: S314 (our own file)
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [(c.get("classname"), [f.get("message") for f in c]) for c in suite] == [
        ("mine", []),
        ("<b>&", ['55 % < "60"']),
    ]
