"""A real cluster of one node, closed by a token, and a real job on it: `jobs/pipeline.py` does what `paft run` does."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from paft_ray.storage.store import Store
from tests.support.closed_ray import closed_environment
from tests.support.plugin_run import judged, write_plugin_run
from tests.support.ports import free_ports
from tests.support.small_run import ONE_ARM

BIN = Path(sys.executable).parent
SETTINGS = ("name=job", *ONE_ARM)


@dataclass(frozen=True, kw_only=True)
class Head:
    """A started head node."""

    environment: dict[str, str]
    """Of a client with the token."""
    url: str
    """Of the job API."""

    def ray(self, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """A `ray` command as a client of this cluster."""
        return subprocess.run(
            [str(BIN / "ray"), *arguments],
            env=self.environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


@pytest.fixture(scope="module")
def head(demo_model: str) -> Iterator[Head]:
    port, dashboard, agent, agent_grpc, client = free_ports(5)
    folder = tempfile.mkdtemp(prefix="paft-head-", dir="/tmp")
    url = f"http://127.0.0.1:{dashboard}"
    environment = closed_environment(RAY_API_SERVER_ADDRESS=url)
    command = [
        "ray",
        "start",
        "--head",
        "--block",
        "--num-cpus=4",
        f"--port={port}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}",
    ]
    command += [
        f"--dashboard-agent-listen-port={agent}",
        f"--dashboard-agent-grpc-port={agent_grpc}",
        f"--ray-client-server-port={client}",
    ]
    log = Path(folder) / "head.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:], f"--temp-dir={folder}/ray"],
            env=environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        for place in (
            f"{url}/api/jobs/",
            f"http://127.0.0.1:{agent}/api/local_raylet_healthz",
        ):  # jobs start through the node's agent
            wait_for(place, environment["RAY_AUTH_TOKEN"], process, log)
        yield Head(environment=environment, url=url)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(url: str, token: str, process: subprocess.Popen[bytes], log: Path) -> None:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5):  # noqa: S310
                return
        except OSError:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)


def test_a_client_without_the_token_is_refused(head: Head) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{head.url}/api/jobs/", timeout=10)  # noqa: S310
    assert refused.value.code == 401


def test_a_submitted_pipeline_needs_only_what_was_shipped(head: Head, tmp_path: Path) -> None:
    shipped = tmp_path / "shipped"
    shutil.copytree("jobs", shipped / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    settings = [part for setting in (*SETTINGS, f"storage={tmp_path}/runs") for part in ("--set", setting)]
    job = [
        "job",
        "submit",
        "--no-wait",
        "--submission-id=tiny",
        "--working-dir=.",
        "--",
        "python",
        "jobs/pipeline.py",
        "jobs/configs/demo.yaml",
        *settings,
    ]
    submitted = head.ray(*job, folder=shipped)
    assert submitted.returncode == 0, submitted.stderr
    shutil.rmtree(shipped)

    logs = head.ray("job", "logs", "--follow", "tiny", folder=tmp_path)
    status = head.ray("job", "status", "tiny", folder=tmp_path)
    assert "succeeded" in status.stdout, (logs.stdout + logs.stderr)[-6000:]
    run = Store(f"{tmp_path}/runs/job")
    results = run.read_json("report/results.json")
    assert set(results["arms"]) == {"base", "paft"}
    assert results["arms"]["paft"]["num_templates"] == 24
    assert run.read_json("train/manifest.json")["models"][0]["num_steps"] == 2


def test_a_job_with_a_relative_storage_fails_and_says_why(head: Head, tmp_path: Path) -> None:
    shutil.copytree("jobs", tmp_path / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    job = head.ray(
        "job", "submit", "--working-dir=.", "--", "python", "jobs/prepare.py", "jobs/configs/demo.yaml", folder=tmp_path
    )
    assert job.returncode == 1
    assert "paft: storage=runs: a job's own folder goes away with it" in job.stdout + job.stderr


@pytest.mark.slow
def test_paft_submit_ships_the_package_and_returns_the_jobs_exit_code(head: Head, tmp_path: Path) -> None:
    (tmp_path / "my").mkdir()
    shutil.copy("jobs/configs/demo.yaml", tmp_path / "my/run.yaml")
    shutil.copy("paft_ray/tasks/data/demo/train.jsonl", tmp_path / "my/rows.jsonl")
    changes = ["--set", f"storage={tmp_path}/runs", "--set", "data.train=my/rows.jsonl", "--set"]
    command = [str(BIN / "paft"), "submit", "my/run.yaml", "--stage", "prepare", "--address", head.url, *changes]

    def submit(setting: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in head.environment.items() if name != "RAY_API_SERVER_ADDRESS"}
        return subprocess.run(
            [*command, setting], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
        )

    done = submit("name=submitted")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "submit: ships" in done.stdout
    assert "my/run.yaml, my/rows.jsonl" in done.stdout
    assert "[prepare] done in" in done.stdout
    assert Store(f"{tmp_path}/runs/submitted").read_json("prepare/manifest.json")["counts"]["test"] == 40
    refused = submit("data.num_test=5000")  # found by the job itself, where rows are counted
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "-1 failed" in refused.stderr  # another run, so its first attempt
    again = submit("name=submitted")
    assert again.returncode == 0
    assert "-prepare-" in again.stdout
    assert "-2 succeeded" in again.stdout


@pytest.mark.slow
def test_a_submitted_run_is_judged_by_the_plugin_that_was_shipped(head: Head, tmp_path: Path) -> None:
    write_plugin_run(tmp_path)
    done = subprocess.run(
        [str(BIN / "paft"), "submit", "my/run.yaml", "--address", head.url],
        env={name: value for name, value in head.environment.items() if name != "RAY_API_SERVER_ADDRESS"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert "my/contains_all.py" in done.stdout
    answers = judged(Store(f"{tmp_path}/runs/letters"))
    assert all(said == found for said, found in answers)
    assert {said for said, _ in answers} == {True, False}


def test_paft_submit_without_the_token_is_refused_in_one_line(head: Head, tmp_path: Path) -> None:
    environment = {name: value for name, value in head.environment.items() if not name.startswith("RAY_AUTH")}
    environment |= {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none"), "HOME": str(tmp_path)}
    config = str(Path("jobs/configs/demo.yaml").resolve())
    command = [str(BIN / "paft"), "submit", config, "--address", head.url, "--set", f"storage={tmp_path}/runs"]
    refused = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("paft: --address: the cluster asks for a token")
