"""`paft submit` against a job API that is passed in: what is shipped, which attempt it is, and whose exit code comes back."""

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from paft_ray.cli import submit
from paft_ray.errors import StageError, UserError

DEMO = Path("jobs/configs/demo.yaml").resolve()
SHARED = "storage=/shared/runs"
TASK = """
name: tickets
kind: choice
description: Decide which team a ticket belongs to.
fields: {text: the ticket}
labels: [billing, other]
sources: {train: {path: ROWS}}
seed_templates: mine/seeds.jsonl
"""


@dataclass(kw_only=True)
class Cluster:
    """The job API of a cluster, as far as it is used."""

    jobs: dict[str, Any] = field(default_factory=dict)
    shipped: set[str] = field(default_factory=set)
    log: tuple[str, ...] = ("line 1\n", "line 2\n")
    refuses: str | None = None
    interrupts: bool = False

    def list_jobs(self) -> list[Any]:
        return [SimpleNamespace(submission_id=None, status=JobStatus.RUNNING, metadata=None), *self.jobs.values()]

    def submit_job(self, *, entrypoint: str, submission_id: str, runtime_env: dict[str, Any], metadata: dict[str, str]) -> str:
        if self.refuses:
            raise RuntimeError(self.refuses)
        folder = Path(runtime_env["working_dir"])
        assert set(runtime_env) == {"working_dir"}
        self.shipped = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
        self.put(submission_id, JobStatus.RUNNING, metadata=metadata, entrypoint=entrypoint)
        return submission_id

    def put(self, name: str, status: JobStatus, **values: Any) -> None:
        defaults = {"message": "it says why", "driver_exit_code": None, "metadata": {}, "entrypoint": ""}
        self.jobs[name] = SimpleNamespace(submission_id=name, status=status, **{**defaults, **values})

    def end(self, name: str, status: JobStatus, code: int | None) -> None:
        self.jobs[name].status, self.jobs[name].driver_exit_code = status, code

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        for line in self.log:
            yield line
        if self.interrupts:
            raise KeyboardInterrupt

    def get_job_info(self, name: str) -> Any:
        return self.jobs[name]


def asked(*overrides: str, stage: str = "run", force: bool = False, path: str | Path = DEMO) -> submit.Request:
    return submit.request(str(path), stage, [SHARED, *overrides], force=force)


def test_the_submission_id_follows_name_storage_and_stage_and_nothing_else() -> None:
    first = asked().base
    assert first == asked("train.num_steps=3").base == asked("storage=/shared/runs/").base
    assert len({first, asked("name=other").base, asked("storage=s3://bucket/runs").base, asked(stage="sweep").base}) == 4


def test_a_job_ships_the_package_and_the_configuration_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("runs/demo/run.json", "data/rows.jsonl", ".env", ".ray/auth_token"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("secret")
    shutil.copy(DEMO, tmp_path / "demo.yaml")
    monkeypatch.chdir(tmp_path)
    cluster = Cluster()
    job = submit.start(cluster, asked(path="demo.yaml"))
    package = {f"paft_ray/{file.relative_to(Path(submit.__file__).parents[1])}" for file in Path(submit.__file__).parents[1].rglob("*") if file.is_file()}
    assert cluster.shipped == {name for name in package if "__pycache__" not in name} | {"demo.yaml"}
    assert cluster.jobs[job].entrypoint == "python -m paft_ray run demo.yaml --set storage=/shared/runs"


@pytest.mark.slow
def test_what_is_shipped_runs_without_the_checkout(tmp_path: Path) -> None:
    import subprocess
    import sys

    with submit.packed(asked()) as folder:
        _, _, *arguments = asked().entrypoint.split()
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        done = subprocess.run(
            [sys.executable, "-m", "paft_ray", *arguments[1:], "--dry-run"], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        where = subprocess.run(
            [sys.executable, "-c", "import paft_ray; print(paft_ray.__file__)"], cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
    assert done.returncode == 0, done.stderr
    assert where.stdout.startswith(str(folder))


def test_task_and_templates_at_relative_paths_are_shipped_with_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "task.yaml").write_text(TASK.replace("ROWS", "/shared/rows.jsonl"))
    texts = [f'{{"text": "Wording number {"x" * n}: {{text}} Team?"}}\n' for n in range(14)]
    (tmp_path / "mine/seeds.jsonl").write_text("".join(texts))
    (tmp_path / "run.yaml").write_text("name: mine\ntask: task.yaml\ndata: {num_test: 5}\nprompts: {seed_templates: builtin}\n")
    monkeypatch.chdir(tmp_path)
    cluster = Cluster()
    submit.start(cluster, asked(path="run.yaml"))
    assert {"run.yaml", "task.yaml", "mine/seeds.jsonl"} == {name for name in cluster.shipped if not name.startswith("paft_ray/")}
    out = capsys.readouterr().out
    assert "the rows are not on this machine" in out
    assert "MiB: paft_ray" in out


def test_a_configuration_from_elsewhere_is_shipped_too(tmp_path: Path) -> None:
    shutil.copy(DEMO, tmp_path / "elsewhere.yaml")
    cluster = Cluster()
    submit.start(cluster, asked(path=tmp_path / "elsewhere.yaml"))
    assert "config/elsewhere.yaml" in cluster.shipped


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("storage=runs", "storage=runs: a job's own folder goes away with it"),
        ("data.train=rows.jsonl", "data.train=rows.jsonl: rows are not shipped with a job; give an absolute path or URI"),
        ("model.id=./model", "model ./model: a folder is not shipped with a job"),
        ("model.id=jobs", "model jobs: a folder is not shipped with a job"),
        ("prompts.seed_templates=../outside.jsonl", "../outside.jsonl: outside the folder that you start in"),
        ("train.num_step=3", "did you mean train.num_steps?"),
        ("engine.engine_kwargs.hf_token=x", "secrets come from the environment only"),
    ],
)
def test_what_a_job_would_not_find_is_refused_before_the_cluster_is_reached(change: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        asked(change)
    assert message in str(refused.value)


def test_relative_rows_of_the_task_itself_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "task.yaml").write_text(TASK.replace("ROWS", "rows.jsonl"))
    (tmp_path / "run.yaml").write_text("name: mine\ntask: task.yaml\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"sources.train of task tickets=rows.jsonl: rows are not shipped"):
        asked(path="run.yaml")


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(UserError, match="--stage pipeline: unknown; allowed: run, prepare"):
        asked(stage="pipeline")


def test_a_second_submit_attaches_while_the_run_is_going_and_is_the_next_attempt_afterwards() -> None:
    cluster = Cluster()
    first = submit.start(cluster, asked())
    assert first.endswith("-1")
    assert submit.start(cluster, asked()) == first
    assert len(cluster.jobs) == 1
    for number, status in enumerate((JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.STOPPED), start=2):
        cluster.end(f"{asked().base}-{number - 1}", status, None)
        assert submit.start(cluster, asked()) == f"{asked().base}-{number}"


def test_a_submit_with_other_settings_is_refused_by_name_while_the_run_is_going() -> None:
    cluster = Cluster()
    job = submit.start(cluster, asked("train.num_steps=3"))
    with pytest.raises(UserError) as refused:
        submit.start(cluster, asked("train.num_steps=4"))
    assert "config.train.num_steps: 3 -> 4" in str(refused.value)
    assert f"ray job stop {job}" in str(refused.value)
    with pytest.raises(UserError, match="force: false -> true"):
        submit.start(cluster, asked("train.num_steps=3", force=True))
    cluster.end(job, JobStatus.FAILED, 1)
    assert submit.start(cluster, asked("train.num_steps=4")).endswith("-2")


def test_attempts_are_counted_by_number_and_other_jobs_do_not_count() -> None:
    cluster = Cluster()
    base = asked().base
    for name in (f"{base}-2", f"{base}-10", f"{base}-", f"{base}-x", f"other-{base}-30", f"{base}-7-40"):
        cluster.put(name, JobStatus.SUCCEEDED)
    assert submit.attempt(cluster.list_jobs(), asked()) == (f"{base}-11", False)


def test_a_refusal_of_the_cluster_is_one_line() -> None:
    with pytest.raises(UserError, match="the cluster refused it"):
        submit.start(Cluster(refuses="Request failed with status code 500"), asked())


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [(JobStatus.SUCCEEDED, 0, 0), (JobStatus.FAILED, 1, 1), (JobStatus.FAILED, 2, 2), (JobStatus.FAILED, None, 1), (JobStatus.STOPPED, None, 1)],
)
def test_the_exit_code_is_that_of_the_job(status: JobStatus, code: int | None, expected: int, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster()
    cluster.put("job-1", status, driver_exit_code=code)
    assert submit.watch(cluster, "job-1") == expected
    assert "line 1\nline 2\n" in capsys.readouterr().out


def test_a_lost_connection_says_that_the_job_goes_on() -> None:
    class Lost(Cluster):
        def get_job_info(self, name: str) -> Any:
            raise ConnectionError("gone")

    with pytest.raises(StageError, match="the job goes on without it"):
        submit.watch(Lost(), "job-1")


def test_ctrl_c_detaches_and_says_how_to_come_back_and_how_to_stop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster(interrupts=True)
    monkeypatch.setattr(submit, "_client", lambda: cluster)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    code = submit.submit(str(DEMO), "run", [SHARED], force=False, follow=True, address="http://127.0.0.1:8265")
    job = f"{asked().base}-1"
    err = capsys.readouterr().err
    assert code == 130
    assert f"job {job} goes on; follow it again with the same command, stop it with: ray job stop {job} --address http://127.0.0.1:8265" in err
    assert not cluster.jobs[job].status.is_terminal()
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:8265"


def test_without_follow_the_job_is_left_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(submit, "_client", Cluster)
    assert submit.submit(str(DEMO), "sweep", [SHARED], force=False, follow=False, address=None) == 0
    out = capsys.readouterr().out
    assert "line 1" not in out
    assert f"ray job logs --follow {asked(stage='sweep').base}-1" in out


@pytest.mark.parametrize(
    ("given", "mode"), [({"RAY_AUTH_TOKEN": "t"}, "token"), ({}, None), ({"RAY_AUTH_TOKEN": "t", "RAY_AUTH_MODE": "disabled"}, "disabled")]
)
def test_a_token_is_sent_where_there_is_one_unless_the_user_decided(
    given: dict[str, str], mode: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("RAY_AUTH_MODE", "x")  # restored after the test
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    submit.use_token()
    assert os.environ.get("RAY_AUTH_MODE") == mode
