"""`paft robustness --submit`: the same command as a job, with the files that it names and nothing else."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from paft_ray.cli.main import app
from paft_ray.cli.robustness import Request
from paft_ray.cli.robustness_job import MeasurementJob, job
from paft_ray.cli.submit import start
from paft_ray.errors import UserError
from tests.unit.cli.test_submit import Cluster

TASK = """
name: tickets
kind: choice
description: Decide which team a ticket belongs to.
fields: {text: the ticket}
labels: {billing: billing, other: other}
sources: {test: {path: mine/test.jsonl}}
held_out_templates: mine/held_out.jsonl
"""
REQUEST = Request(
    models=("demo", "there=http://127.0.0.1:1/v1#m", "two=mine/endpoint.yaml"),
    task="mine/task.yaml",
    suite=("templates", "noise=0.1"),
    out="/shared/robustness",
    data=None,
    num_rows=4,
    base=None,
    chat=True,
    overrides=("engine.precision=fp32",),
    fail_below="mean=0.5",
    baseline=None,
    junit=None,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "mine"
    own.mkdir()
    (own / "task.yaml").write_text(TASK)
    rows = [{"text": f"number {i}", "label": ["billing", "other"][i % 2]} for i in range(8)]
    (own / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [f"Ticket {i}: {{text}}\nIs it billing or other? Team:" for i in range(8)]
    (own / "held_out.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (own / "endpoint.yaml").write_text("id: m\nendpoint: {base_url: http://127.0.0.1:1/v1}\n")
    (own / "diary.txt").write_text("mine")
    return tmp_path


def test_the_job_ships_what_the_command_names_and_is_the_same_command(folder: Path) -> None:
    cluster = Cluster()
    asked = job(REQUEST, wait="5m")
    assert start(cluster, asked) == f"{asked.base}-1"
    assert sorted(cluster.contents) == [
        "mine/endpoint.yaml",
        "mine/held_out.jsonl",
        "mine/task.yaml",
        "mine/test.jsonl",
    ]
    given = shlex.split(cluster.jobs[f"{asked.base}-1"].entrypoint)
    assert given[:4] == ["python", "-m", "paft_ray", "robustness"]
    assert given[4:] == [
        *REQUEST.models,
        "--task=mine/task.yaml",
        "--out=/shared/robustness",
        "--rows=4",
        "--suite=templates",
        "--suite=noise=0.1",
        "--set=engine.precision=fp32",
        "--fail-below=mean=0.5",
        "--chat",
        "--wait-resources=5m",
    ]


def test_the_job_s_command_line_is_read_back_as_the_same_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Request] = []

    def keep(request: Request, *, dry_run: bool, address: str | None, wait: str) -> int:
        read.append(request)
        return 0

    monkeypatch.setattr("paft_ray.cli.robustness.robustness", keep)
    whole = replace(REQUEST, data="/rows.jsonl", base="demo", baseline="/old/results.json", junit="/shared/x.xml")
    for request in (REQUEST, whole):
        asked = MeasurementJob(arguments=tuple(_arguments(request)), out=request.out, files=())
        app(shlex.split(asked.entrypoint)[3:], standalone_mode=False)
    assert read == [REQUEST, whole]


def _arguments(request: Request) -> list[str]:
    from paft_ray.cli.robustness_job import _arguments as arguments

    return list(arguments(request))


def test_another_place_is_another_job(folder: Path) -> None:
    assert job(REQUEST).base == job(replace(REQUEST, num_rows=3)).base
    assert job(REQUEST).base != job(replace(REQUEST, out="/shared/other")).base


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": "results"}, "--out results: a job's own folder goes away with it"),
        ({"junit": "x.xml"}, "--junit x.xml: a job's own folder goes away with it"),
        ({"junit": "s3://bucket/x.xml"}, "--junit s3://bucket/x.xml"),
        ({"base": "mine"}, "model mine: a folder is not shipped"),
        ({"data": "mine/nothing.jsonl"}, "mine/nothing.jsonl"),
        ({"models": ("mine",)}, "model mine: a folder is not shipped with a job"),
        ({"models": ("a=mine:paft",)}, "model mine:paft: a folder is not shipped"),
        ({"suite": ("nose",)}, "--suite nose: no suite"),
        ({"task": "../mine/task.yaml"}, "task ../mine/task.yaml"),
        ({"baseline": "old.json"}, "--baseline old.json"),
        ({"overrides": ("train.num_steps=3",)}, "--set train.num_steps=3"),
    ],
)
def test_what_a_job_would_not_find_is_refused(change: dict[str, object], message: str, folder: Path) -> None:
    with pytest.raises(UserError) as error:
        job(replace(REQUEST, **change))  # type: ignore[arg-type]
    assert message in str(error.value)


def test_rows_that_only_the_cluster_has_are_checked_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = job(replace(REQUEST, data="s3://bucket/rows.jsonl"))
    assert "--data=s3://bucket/rows.jsonl" in asked.arguments
    assert "mine/test.jsonl" not in asked.files
    assert "the rows are not on this machine" in capsys.readouterr().out


def test_a_secret_is_not_put_onto_the_command_line_that_a_dashboard_shows(folder: Path) -> None:
    for request in (REQUEST, replace(REQUEST, data="s3://bucket/rows.jsonl")):
        with pytest.raises(UserError, match="--set holds a secret"):
            job(replace(request, overrides=(f"model.id=hf_{'a1B2' * 9}",)))
        for model in ("https://me:secret@host/v1#m", f"hf_{'a1B2' * 9}"):
            with pytest.raises(UserError, match="model 1 holds a secret"):
                job(replace(request, models=(model,)))
    for uri in ("s3://key:secret@bucket/rows.jsonl", "https://me:secret@host/rows.jsonl"):
        with pytest.raises(UserError, match="--data holds a secret") as error:
            job(replace(REQUEST, data=uri))
        assert "secret@" not in str(error.value)


def test_a_home_folder_is_that_of_who_submits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    asked = job(replace(REQUEST, models=("~/adapter", "one=~/adapter", "demo")))
    assert asked.arguments[:3] == ("/home/me/adapter", "one=/home/me/adapter", "demo")


def test_other_files_are_another_job(folder: Path) -> None:
    before = job(REQUEST).settings
    assert job(REQUEST).settings == before
    (folder / "mine/held_out.jsonl").write_text(json.dumps({"text": "Billing or other? {text}"}) + "\n")
    assert job(REQUEST).settings != before


def test_rows_of_a_hub_are_not_read_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine/task.yaml").write_text(
        TASK.replace("{path: mine/test.jsonl}", "{dataset: owner/name, split: test}")
    )
    monkeypatch.setattr("paft_ray.cli.robustness.read_examples", lambda *_: pytest.fail("the hub was asked"))
    job(REQUEST)
    assert "the rows are not on this machine" in capsys.readouterr().out
