"""Keys and tokens of the environment are in no file that a command writes and in no line that it prints; the values are made up."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from paft_ray.artifacts import Run
from paft_ray.cli import main as cli
from paft_ray.cli import submit
from paft_ray.config import Config, EngineConfig, GeneratorConfig, load_config
from paft_ray.prompts.request import Request, Written
from paft_ray.report.write import write_report
from paft_ray.stages import synthesize
from tests.page_run import config as page_config
from tests.page_run import hostile_run

NAMES = (
    "HF_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "OPENAI_API_KEY",
    "GENERATOR_KEY",
    "WANDB_API_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "RAY_AUTH_TOKEN",
)
SECRETS = {name: f"made-up-{number}-Zz9/{name[::-1]}" for number, name in enumerate(NAMES)}
OUTSIDE = "prompts.generators=[{id: g, endpoint: {base_url: 'https://api.example.com/v1', api_key_env: GENERATOR_KEY}}]"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def found_in(data: bytes) -> list[str]:
    return [name for name, value in SECRETS.items() if value.encode() in data or json.dumps(value)[1:-1].replace("/", "\\/").encode() in data]


def paft(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(arguments))
    return int(stopped.value.code or 0), *capsys.readouterr()


def outside(storage: Path | str) -> Config:
    return load_config("jobs/configs/demo.yaml", [OUTSIDE, f"storage={storage}"])


def answers(requests: Sequence[Request], _: GeneratorConfig, __: EngineConfig, seed: int) -> list[Written]:
    return [Written(text=f"Wording {seed} {number}: is it positive or negative? {{text}}", finished=True, tokens=9) for number, _ in enumerate(requests)]


@pytest.mark.parametrize("stage", ["run", "sweep"])
def test_a_plan_names_the_variable_of_a_key_and_never_shows_it(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = paft(capsys, stage, "jobs/configs/demo.yaml", "--dry-run", "--set", OUTSIDE)
    assert (code, found_in((out + error).encode())) == (0, [])
    assert "key from GENERATOR_KEY" in out


def test_no_artifact_and_no_printed_line_holds_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = outside(tmp_path)
    run = Run.open(config.storage, config.name)
    run.write_json("config.json", config.model_dump(mode="json"))
    synthesize.run(config, run, write=answers)
    write_report(hostile_run(tmp_path / "page"), config=page_config())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.json", "manifest.json", "raw.jsonl", "prompt_set.parquet", "report.html", "results.json"} <= {path.name for path in files}
    assert {path.name: found_in(path.read_bytes()) for path in files if found_in(path.read_bytes())} == {}
    assert found_in("".join(capsys.readouterr()).encode()) == []


def test_what_a_submit_ships_and_says_of_itself_holds_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    asked = submit.request("jobs/configs/demo.yaml", "run", [OUTSIDE, "storage=/shared/runs"], force=False)
    with submit.packed(asked) as folder:
        shipped = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert len(shipped) > 10_000
    assert found_in(shipped) == []
    assert found_in(json.dumps([asked.settings, asked.entrypoint, asked.base]).encode()) == []
    assert found_in("".join(capsys.readouterr()).encode()) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "setting",
    [
        "seed=VALUE",
        "model.id=./VALUE",
        "data.train=VALUE.jsonl",
        "storage=s3://me:VALUE@bucket",
        "VALUE=1",
        "train.VALUE=1",
        "tracking.experiment=VALUE",
        "engine.engine_kwargs={x: VALUE}",
    ],
)
def test_a_secret_that_a_user_puts_in_the_wrong_place_is_not_repeated(name: str, setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = paft(capsys, "run", "jobs/configs/demo.yaml", "--set", "prompts.generators=[]", "--set", setting.replace("VALUE", SECRETS[name]))
    assert (code, len(error.splitlines()), found_in((out + error).encode())) == (2, 1, [])
