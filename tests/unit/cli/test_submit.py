"""`paft submit` against a job API that is passed in: what is shipped, which attempt it is, and whose exit code comes
back."""

import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
import yaml
from ray._private.runtime_env.packaging import _zip_files
from ray.job_submission import JobStatus

from paft_ray.cli import submit
from paft_ray.cli.secrets import is_secret_file
from paft_ray.cli.shipping import resolved
from paft_ray.config import Config, load_config
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
    contents: dict[str, str] = field(default_factory=dict)
    """Of the user's files."""
    log: tuple[str, ...] = ("line 1\n", "line 2\n")
    refuses: str | None = None
    interrupts: bool = False

    def list_jobs(self) -> list[Any]:
        return [SimpleNamespace(submission_id=None, status=JobStatus.RUNNING, metadata=None), *self.jobs.values()]

    def submit_job(
        self, *, entrypoint: str, submission_id: str, runtime_env: dict[str, Any], metadata: dict[str, str]
    ) -> str:
        if self.refuses:
            raise RuntimeError(self.refuses)
        folder = Path(runtime_env["working_dir"])
        assert set(runtime_env) == {"working_dir"}
        self.shipped = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
        self.contents = {name: (folder / name).read_text() for name in self.shipped if not name.startswith("paft_ray/")}
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


def test_doctor_does_not_wait() -> None:
    with pytest.raises(UserError, match="doctor says what is there now"):
        submit.submit(str(DEMO), "doctor", [SHARED], force=False, follow=False, address=None, wait="30m")


@pytest.mark.parametrize("given", [{"force": True}, {"force": False, "accept": ["versions.torch"]}])
def test_doctor_has_nothing_to_force_or_accept(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="doctor changes nothing"):
        submit.request(str(DEMO), "doctor", [SHARED], **given)


def test_what_is_accepted_travels_with_the_job() -> None:
    plain = submit.request(str(DEMO), "run", [SHARED], force=False)
    accepting = submit.request(str(DEMO), "run", [SHARED], force=False, accept=["versions.torch", "results_version"])
    assert accepting.entrypoint == f"{plain.entrypoint} --accept=versions.torch --accept=results_version"
    assert replace(plain, wait_resources="30m").entrypoint == f"{plain.entrypoint} --wait-resources=30m"
    assert plain.settings != accepting.settings
    with pytest.raises(UserError, match="--accept task"):
        submit.request(str(DEMO), "run", [SHARED], force=False, accept=["task"])


def asked(*overrides: str, stage: str = "run", force: bool = False, path: str | Path = DEMO) -> submit.Request:
    return submit.request(str(path), stage, [SHARED, *overrides], force=force)


def load_config_text(text: str, folder: Path) -> Config:
    (folder / "shipped.yaml").write_text(text)
    return load_config(folder / "shipped.yaml")


def test_the_submission_id_follows_name_storage_and_stage_and_nothing_else() -> None:
    first = asked().base
    assert first == asked("train.num_steps=3").base == asked("storage=/shared/runs/").base
    assert (
        len({first, asked("name=other").base, asked("storage=s3://bucket/runs").base, asked(stage="sweep").base}) == 4
    )


def test_a_job_ships_the_package_and_the_configuration_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("runs/demo/run.json", "data/rows.jsonl", ".env", ".ray/auth_token"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("secret")
    (tmp_path / "demo.yaml").write_text("# the password is hunter2\n" + DEMO.read_text())
    monkeypatch.chdir(tmp_path)
    cluster = Cluster()
    job = submit.start(cluster, asked("name=with-a-password", "name=demo", path="demo.yaml"))
    package = {
        f"paft_ray/{file.relative_to(Path(submit.__file__).parents[1])}"
        for file in Path(submit.__file__).parents[1].rglob("*")
        if file.is_file()
    }
    assert cluster.shipped == {name for name in package if "__pycache__" not in name} | {"demo.yaml"}
    assert cluster.jobs[job].entrypoint == "python -m paft_ray run demo.yaml"
    assert "password" not in cluster.jobs[job].entrypoint + cluster.contents["demo.yaml"]
    assert load_config_text(cluster.contents["demo.yaml"], tmp_path) == load_config(DEMO, [SHARED])


@pytest.mark.slow
def test_what_is_shipped_runs_without_the_checkout(tmp_path: Path) -> None:
    import subprocess
    import sys

    with submit.packed(asked()) as folder:
        _, _, *arguments = asked().entrypoint.split()
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        done = subprocess.run(
            [sys.executable, "-m", "paft_ray", *arguments[1:], "--dry-run"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        where = subprocess.run(
            [sys.executable, "-c", "import paft_ray; print(paft_ray.__file__)"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.returncode == 0, done.stderr
    assert where.stdout.startswith(str(folder))


def write_own_task(folder: Path) -> list[str]:
    """run.yaml, task.yaml and mine/seeds.jsonl, whose lines it returns; the rows are elsewhere."""
    (folder / "mine").mkdir()
    (folder / "task.yaml").write_text(TASK.replace("ROWS", "/shared/rows.jsonl"))
    texts = [f'{{"text": "Wording number {"x" * n}: {{text}} Team?"}}\n' for n in range(14)]
    (folder / "mine/seeds.jsonl").write_text("".join(texts))
    (folder / "run.yaml").write_text(
        "name: mine\ntask: task.yaml\ndata: {num_test: 5}\nprompts: {seed_templates: builtin}\n"
    )
    return texts


def test_task_and_templates_at_relative_paths_are_shipped_with_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own_task(tmp_path)
    monkeypatch.chdir(tmp_path)
    cluster = Cluster()
    submit.start(cluster, asked(path="run.yaml"))
    assert {"run.yaml", "task.yaml", "mine/seeds.jsonl"} == {
        name for name in cluster.shipped if not name.startswith("paft_ray/")
    }
    out = capsys.readouterr().out
    assert "the rows are not on this machine" in out
    assert "MiB: paft_ray" in out


def test_plugins_are_shipped_and_their_content_is_named_in_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, OWN)
    example = Path("docs/examples/contains_all.py").read_bytes()
    (tmp_path / "graders").mkdir()
    (tmp_path / "graders/contains_all.py").write_bytes(example)
    monkeypatch.chdir(tmp_path)
    cluster = Cluster()
    submit.start(cluster, asked("plugins=[graders/contains_all.py]", path="my/run.yaml"))
    assert cluster.contents["graders/contains_all.py"] == example.decode()
    shipped = yaml.safe_load(cluster.contents["my/run.yaml"])["plugins"]
    assert shipped == [f"graders/contains_all.py#sha256={hashlib.sha256(example).hexdigest()}"]
    (tmp_path.parent / "x.py").write_bytes(example)
    with pytest.raises(UserError, match=r"\.\./x\.py: outside the folder that you start in"):
        asked("plugins=[../x.py]", path="my/run.yaml")


@pytest.mark.parametrize("path", sorted(Path("jobs/configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_resolved_configuration_is_the_same_and_leaves_unset_what_depends_on_the_machine(
    path: Path, tmp_path: Path
) -> None:
    request = "{a: [x, x], text: 'no', when: '2026-01-31', float: '1e-5', deep: {b: [{c: null}]}}"
    config = load_config(
        path,
        [
            "train.learning_rate=1e-5",
            f"prompts.generators=[{{id: g, endpoint: {{base_url: 'https://h/v1', request: {request}}}}}]",
        ],
    )
    text = resolved(config)
    again = load_config_text(text, tmp_path)
    assert again == config
    assert again.model_dump(exclude_unset=True) == config.model_dump(exclude_unset=True)
    assert "precision" not in text or "precision" in path.read_text()
    assert "#" not in text


OWN = {
    "my/task.yaml": TASK.replace("ROWS", "my/rows.jsonl").replace("mine/", "my/"),
    "my/seeds.jsonl": "".join(f'{{"text": "Wording number {"x" * n}: {{text}} Team?"}}\n' for n in range(14)),
    "my/rows.jsonl": "".join(f'{{"text": "ticket {n}", "label": "billing"}}\n' for n in range(9)),
    "my/run.yaml": "# a note for myself\nname: mine\ntask: my/task.yaml\ndata: {num_test: 5}\nprompts: {seed_templates: "  # noqa: E501
    "builtin}\n",
    "my/other.yaml": "name: other # with a note\ntask: demo\n",
    "my/OTHER.YML": "name: other # with a note\ntask: demo\n",
    "my/run.yaml~": "name: other # with a note\ntask: demo\n",
    "my/run.yaml.bak": "name: other # with a note\ntask: demo\n",
    "my/.DS_Store": "x",
    "my/__pycache__/x.pyc": "x",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def test_the_folder_my_is_shipped_with_its_rows_and_a_run_file_without_its_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {**OWN, "rows.jsonl": "x", "notes.txt": "x"})
    monkeypatch.chdir(tmp_path)
    cluster = Cluster()
    submit.start(cluster, asked("data.train=./my/../my/rows.jsonl", path="my/run.yaml"))
    assert set(cluster.contents) == {"my/task.yaml", "my/seeds.jsonl", "my/rows.jsonl", "my/run.yaml"}
    assert "note" not in "".join(cluster.contents.values())
    assert cluster.contents["my/rows.jsonl"] == OWN["my/rows.jsonl"]


KEY = "-----BEGIN OPENSSH " + "PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("my/.env", "A=b", "my/.env: .env looks like a secret by its name"),
        ("my/deep/er/.env.local", "A=b", ".env.local looks like a secret by its name"),
        ("my/.aws/credentials", "x", "my/.aws/credentials: .aws looks like a secret by its name"),
        ("my/id_ed25519", "x", "id_ed25519 looks like a secret by its name"),
        ("my/service-account.json", "{}", "service-account.json looks like a secret by its name"),
        ("my/tls/server.pem", "x", "server.pem looks like a secret by its name"),
        ("my/hf_token.txt", "x", "hf_token.txt looks like a secret by its name"),
        ("my/ID_RSA.bak", "x", "ID_RSA.bak looks like a secret by its name"),
        ("my/server.key~", "x", "server.key~ looks like a secret by its name"),
        ("my/secrets/a.txt", "x", "my/secrets/a.txt: secrets looks like a secret by its name"),
        ("my/netrc", "x", "my/netrc: netrc looks like a secret by its name"),
        ("my/sk-proj-made0up0123456789.txt", "x", "holds what looks like a key or token"),
        ("my/made-up/value+9/a.txt", "x", "holds the value of CLUSTER_PASSWD"),
        (
            "my/utf16.txt",
            "\0".join("sk-proj-made0up0123456789\n"),
            "my/utf16.txt: holds what looks like a key or token",
        ),
        ("my/utf16.txt", "\0".join("made-up/value+9\n"), "my/utf16.txt: holds the value of CLUSTER_PASSWD"),
        ("my/a\nb.txt", "x", "a character of this name does not show or is no UTF-8"),
        ("my/\udcff.txt", "x", "a character of this name does not show or is no UTF-8"),
        ("my/\u202egnp.txt", "x", "a character of this name does not show or is no UTF-8"),
        ("my/notes.md", f"{KEY}\nabc\n", "my/notes.md: holds what looks like a key or token"),
        ("my/rows.csv", "text,label\nghp_" + "a1B2" * 9 + ",x\n", "my/rows.csv: holds what looks like a key or token"),
        ("my/rows.csv", "text,label\nmade-up%2fvalue%2b9,x\n", "my/rows.csv: holds the value of CLUSTER_PASSWD"),
        ("my/out -> /etc/hostname", "", "my/out: a link that leads out of my/"),
        ("my/out -> ../run.yaml", "", "my/out: a link that leads out of my/"),
        ("my/etc -> /etc/ssh", "", "my/etc: a link to a folder is not followed"),
        ("my/nothing -> none", "", "my/nothing: cannot be read"),
        ("my/large.bin", "x" * 9 * 2**20, "(my/large.bin, "),
    ],
)
def test_what_must_not_be_shipped_is_refused_by_name(
    name: str, content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {**OWN, "run.yaml": "x"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLUSTER_PASSWD", "made-up/value+9")
    link, arrow, target = name.partition(" -> ")
    if arrow:
        Path(link).symlink_to(target)
    else:
        write(tmp_path, {name: content})
    cluster = Cluster()
    with pytest.raises(UserError) as refused:
        submit.start(cluster, asked(path="my/run.yaml"))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not cluster.jobs


@pytest.mark.parametrize("method", ["read_bytes", "walk"])
def test_what_cannot_be_read_is_refused_and_not_left_out(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {**OWN, "my/locked/a.txt": "x"})
    monkeypatch.chdir(tmp_path)
    refused = PermissionError(13, "Permission denied", "my/locked")
    request, read, scan = asked(path="my/run.yaml"), Path.read_bytes, os.scandir

    def read_bytes(path: Path) -> bytes:
        if method == "read_bytes" and "locked" in str(path):
            raise refused
        return read(path)

    def scandir(path: Any) -> Any:
        if method == "walk" and "locked" in str(path):
            raise refused
        return scan(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"my/locked.*: cannot be read \(Permission denied\)"):
        submit.start(Cluster(), request)


@pytest.mark.parametrize(
    "name",
    [
        "answers.csv",
        "tokens.txt",
        "id_map",
        "id_list.txt",
        "passage.txt",
        "passwords.csv",
        "secret_santa.jsonl",
        "keys.json",
        "tokenizer.json",
        "author.txt",
        "2.5",
        "v1.0",
    ],
)
def test_an_ordinary_name_is_shipped_by_both_ways(name: str, tmp_path: Path) -> None:
    assert not is_secret_file(name)
    write(tmp_path / "checkout", {f"my/{name}": "x"})
    shutil.copy(".rayignore", tmp_path / "checkout")
    assert shipped_by_ray(tmp_path / "checkout") == {f"my/{name}"}


def test_a_pipe_in_the_folder_my_is_refused_and_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, OWN)
    monkeypatch.chdir(tmp_path)
    os.mkfifo("my/pipe")
    with pytest.raises(UserError, match="my/pipe: not a file"):
        submit.start(Cluster(), asked(path="my/run.yaml"))


def test_a_folder_my_that_is_a_link_is_not_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "elsewhere", OWN)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("my").symlink_to(tmp_path / "elsewhere/my")
    with pytest.raises(UserError, match="a link that leads out of my/"):
        submit.start(Cluster(), asked(path="my/run.yaml"))


def shipped_by_ray(folder: Path) -> set[str]:
    """What `ray job submit --working-dir` puts into its archive, by Ray's own code."""
    _zip_files(str(folder), [], str(folder.parent / "job.zip"), include_gitignore=True)
    return set(ZipFile(folder.parent / "job.zip").namelist())


CASES_OF_SECRETS = [
    *("ID_RSA", "server.PEM", "Credentials.json", "API_KEY.txt", "api_key.txt", "apikey", "password", "passwd"),
    *("secret", "secrets.ini", "my.ovpn", "access_key.json", "private_key.txt", "Token.txt", "HF_TOKEN", "auth.json"),
    *("jwt.txt", "cookie.txt", "Kubeconfig", "a.KEY", "a.P12", "secret.txt", "SERVICE_ACCOUNT.json", "_netrc"),
    *("netrc", "Password.txt", "x_Credentials.JSON", "db_password.cfg"),
]


def test_plain_ray_job_submit_ships_the_package_jobs_and_my_and_nothing_else(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    wanted = dict.fromkeys(
        (
            "paft_ray/cli/main.py",
            "jobs/run.py",
            "jobs/configs/a.yaml",
            "pyproject.toml",
            "my/t.yaml",
            "my/b/rows.csv",
            "my/my/x",
        ),
        "x",
    )
    left = [
        ".env",
        ".netrc",
        ".aws/credentials",
        "id_ed25519",
        "service-account.json",
        "wandb/x",
        "mlruns/x",
        "outputs/x",
        "slurm-1.out",
        "runs/x",
        "exported/x",
    ]
    left += [
        ".git/config",
        "rows.jsonl",
        "README.md",
        "tests/x.py",
        "other/my/x",
        "other/paft_ray/x.py",
        "jobs/.env",
        "my/.env",
        "my/b/.env.local",
        "my/.ssh/id",
    ]
    left += [
        "my/id_rsa",
        "my/b/tls.pem",
        "my/service-account.json",
        "my/credentials",
        "my/aws_credentials.json",
        "my/hf_token",
        *(f"my/{name}" for name in CASES_OF_SECRETS),
        "paft_ray/cli/__pycache__/x.pyc",
    ]
    write(checkout, {**wanted, **dict.fromkeys(left, "x")})
    (checkout / "link").symlink_to("/etc/ssh")
    for name in (".rayignore", ".gitignore"):
        shutil.copy(name, checkout)
    assert shipped_by_ray(checkout) == set(wanted)


def test_plain_ray_job_submit_ships_every_file_of_package_and_jobs(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("paft_ray", "jobs"):
        shutil.copytree(name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    before = {str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_file()}
    for name in (".rayignore", ".gitignore"):
        shutil.copy(name, checkout)
    assert shipped_by_ray(checkout) == before


def test_a_configuration_from_elsewhere_is_shipped_too(tmp_path: Path) -> None:
    shutil.copy(DEMO, tmp_path / "elsewhere.yaml")
    cluster = Cluster()
    submit.start(cluster, asked(path=tmp_path / "elsewhere.yaml"))
    assert "config/elsewhere.yaml" in cluster.shipped


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("storage=runs", "storage=runs: a job's own folder goes away with it"),
        ("storage=~/runs", "storage=~/runs: the job may run under another user"),
        (
            "data.train=rows.jsonl",
            "data.train=rows.jsonl: rows are not shipped with a job; give an absolute path or URI",
        ),
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


def test_a_submit_with_other_files_is_refused_by_name_while_the_run_is_going(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = write_own_task(tmp_path)
    monkeypatch.chdir(tmp_path)
    cluster = Cluster()
    job = submit.start(cluster, asked(path="run.yaml"))
    assert submit.start(cluster, asked(path="run.yaml")) == job
    (tmp_path / "mine/seeds.jsonl").write_text("".join(texts[1:]))
    with pytest.raises(UserError, match=r"files\.mine/seeds\.jsonl: "):
        submit.start(cluster, asked(path="run.yaml"))


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
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 1, 1),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, None, 1),
    ],
)
def test_the_exit_code_is_that_of_the_job(
    status: JobStatus, code: int | None, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster()
    cluster.put("job-1", status, driver_exit_code=code)
    assert submit.watch(cluster, "job-1") == expected
    assert "line 1\nline 2\n" in capsys.readouterr().out


def test_a_lost_connection_says_that_the_job_goes_on() -> None:
    class Lost(Cluster):
        def get_job_info(self, name: str) -> Any:
            raise ConnectionError("gone")

    with pytest.raises(StageError, match="the job continues without it"):
        submit.watch(Lost(), "job-1")


def test_ctrl_c_detaches_and_says_how_to_come_back_and_how_to_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster(interrupts=True)
    monkeypatch.setattr(submit, "_client", lambda: cluster)
    monkeypatch.setattr(submit, "reach_job_api", lambda address: None)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    with pytest.raises(SystemExit) as stopped:
        submit.submit(str(DEMO), "run", [SHARED], force=False, follow=True, address="http://127.0.0.1:8265")
    job = f"{asked().base}-1"
    err = capsys.readouterr().err
    assert stopped.value.code == 130
    assert (
        f"job {job} keeps running; follow it again with the same command, stop it with: ray job stop {job} --address "
        "http://127.0.0.1:8265" in err
    )
    assert not cluster.jobs[job].status.is_terminal()
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:8265"


def test_without_follow_the_job_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submit, "_client", Cluster)
    assert submit.submit(str(DEMO), "sweep", [SHARED], force=False, follow=False, address=None) == 0
    out = capsys.readouterr().out
    assert "line 1" not in out
    assert f"ray job logs --follow {asked(stage='sweep').base}-1" in out


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({"RAY_AUTH_TOKEN": "t"}, "token"),
        ({}, None),
        ({"RAY_AUTH_TOKEN": "t", "RAY_AUTH_MODE": "disabled"}, "disabled"),
    ],
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
