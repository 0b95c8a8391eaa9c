"""Keys and tokens of the environment are in no file that a command writes and in no line that it prints; the values are
made up."""

import json
import random
import string
from collections.abc import Sequence
from pathlib import Path

import pytest

from paft_ray.cli import main as cli
from paft_ray.cli import submit
from paft_ray.cli.preflight import check_inputs
from paft_ray.config import Config, EngineConfig, GeneratorConfig, load_config
from paft_ray.credentials import holds_credentials, looks_secret, names_secret
from paft_ray.echo import echo, echo_json, echo_table
from paft_ray.generators.requests import Completion, Request
from paft_ray.report.render import write_report
from paft_ray.stages import synthesize
from paft_ray.stages.registry import REPORTED
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.store import Store
from tests.hostile.bad_inputs import secrets as refused
from tests.support.known_judge import trusting
from tests.support.page_run import config as page_config
from tests.support.page_run import hostile_run
from tests.support.resolved import resolved

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
    return [
        name
        for name, value in SECRETS.items()
        if value.encode() in data or json.dumps(value)[1:-1].replace("/", "\\/").encode() in data
    ]


def paft(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(arguments))
    return int(stopped.value.code or 0), *capsys.readouterr()


def outside(storage: Path | str) -> Config:
    return load_config("jobs/configs/demo.yaml", [OUTSIDE, f"storage={storage}"])


def answers(
    requests: Sequence[Request], _: GeneratorConfig, __: EngineConfig, seed: int
) -> tuple[list[Completion], int]:
    written = [
        Completion(text=f"Wording {seed} {number}: is it positive or negative? {{text}}", finished=True, tokens=9)
        for number, _ in enumerate(requests)
    ]
    return written, 0


@pytest.mark.parametrize("stage", ["run", "sweep"])
def test_a_plan_names_the_variable_of_a_key_and_never_shows_it(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = paft(capsys, stage, "jobs/configs/demo.yaml", "--dry-run", "--set", OUTSIDE)
    assert (code, found_in((out + error).encode())) == (0, [])
    assert "key from GENERATOR_KEY" in out


def test_no_artifact_and_no_printed_line_holds_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = outside(tmp_path)
    run = Store.open(config.storage, config.name)
    run.write_json("config.json", config.model_dump(mode="json"))
    synthesize.run(resolved(config, run), write=answers, signals=trusting)
    write_report(hostile_run(tmp_path / "page"), config=page_config(), stages=REPORTED)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.json", "manifest.json", "raw.jsonl", "prompt_set.parquet", "report.html", "results.json"} <= {
        path.name for path in files
    }
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
def test_a_secret_that_a_user_puts_in_the_wrong_place_is_not_repeated(
    name: str, setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = paft(
        capsys,
        "run",
        "jobs/configs/demo.yaml",
        "--set",
        "prompts.generators=[]",
        "--set",
        setting.replace("VALUE", SECRETS[name]),
    )
    assert (code, len(error.splitlines()), found_in((out + error).encode())) == (2, 1, [])


@pytest.mark.parametrize("name", ["LAB_SERVER", "GITHUB_PAT", "DB_PASSWD", "API_KEY_2"])
@pytest.mark.parametrize("form", ["hunter2", "x hunter2 y", "a/hunter2/b"])
def test_a_secret_of_the_environment_is_refused_whatever_its_variable_is_called(
    name: str, form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "hunter2\n")
    generator = (
        f"prompts.generators=[{{id: g, endpoint: {{base_url: 'https://h/v1', api_key_env: {name}, request: {{user: "
        f"{form!r}}}}}}}]"
    )
    code, out, error = paft(capsys, "run", "jobs/configs/demo.yaml", "--dry-run", "--set", generator)
    assert (code, "hunter2" in out + error) == (2, False)
    assert f"config: prompts.generators.endpoint.request.user: holds the value of {name}" in error


def test_a_secret_in_the_first_of_two_endpoints_of_one_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (
        f"{{id: g, endpoint: {{base_url: 'https://h/v1', request: {request}}}}}"
        for request in ("{metadata: {password: hunter2}}", "{seed: 1}")
    )
    generators = f"prompts.generators=[{one}, {other}]"
    code, out, error = paft(capsys, "run", "jobs/configs/demo.yaml", "--dry-run", "--set", generators)
    assert (code, "hunter2" in out + error) == (2, False)
    assert "generator g at h: endpoint.request.password: secrets come from the environment only" in error


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["VALUE"],
        ["run", "c.yaml", "--VALUE"],
        ["run", "c.yaml", "VALUE"],
        ["export", "r", "--out", "o", "--precision", "VALUE"],
        ["audit", "r", "VALUE"],
    ],
)
def test_a_usage_error_is_one_line_and_does_not_repeat_a_secret(
    name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = paft(capsys, *[part.replace("VALUE", SECRETS[name]) for part in arguments])
    assert (code, out, len(error.splitlines()), found_in(error.encode())) == (2, "", 1, [])
    assert error.endswith("--help\n")


@pytest.mark.parametrize("arguments", [[], ["prompts"], ["--help"], ["run", "--help"]])
def test_help_is_printed_as_before(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = paft(capsys, *arguments)
    assert (code, error) == (0 if "--help" in arguments else 2, "")
    assert "Usage: paft" in out


def test_what_is_printed_holds_no_secret_whoever_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    echo(
        f"follow it with: ray job logs a --address http://me:{SECRETS['HF_TOKEN']}@head:8265 "
        f"({SECRETS['WANDB_API_KEY']})"
    )
    echo_json([SECRETS["HF_TOKEN"]])
    echo_table(["arm"], [(SECRETS["HF_TOKEN"],)], title=SECRETS["WANDB_API_KEY"])
    assert found_in("".join(capsys.readouterr()).encode()) == []


def test_the_configuration_of_a_report_is_looked_through_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in ("evaluate/manifest.json", "synthesize/manifest.json"):
        Store.open(str(tmp_path), "demo").write_json(path, {})
    changes = [f"storage={tmp_path}", f"tracking.experiment={SECRETS['HF_TOKEN']}"]
    code, _, error = paft(
        capsys, "report", "jobs/configs/demo.yaml", *(part for change in changes for part in ("--set", change))
    )
    assert (code, found_in(error.encode())) == (2, [])
    assert "config: tracking.experiment: holds the value of HF_TOKEN" in error


@pytest.mark.parametrize(
    "wrong",
    [
        "seed=VALUE",
        "engine.precision=VALUE",
        "train.arms=[VALUE]",
        "engine.engine_kwargs={block_size: PADVALUE}",
        "engine.engine_kwargs={PADVALUE: 1}",
    ],
)
def test_the_value_of_a_variable_that_a_wrong_configuration_names_is_not_shown(
    wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PAFT_SECRET_VARIABLES", raising=False)
    monkeypatch.setenv("LAB_SERVER", "open sesame please")
    generator = "prompts.generators=[{id: g, endpoint: {base_url: 'https://h/v1', api_key_env: LAB_SERVER}}]"
    setting = wrong.replace("PAD", "word " * 9).replace("VALUE", "open sesame please")
    code, out, error = paft(capsys, "run", "jobs/configs/demo.yaml", "--dry-run", "--set", generator, "--set", setting)
    assert (code, "sesame" in out + error) == (2, False)


ALLOWED = [
    "eos_token",
    "bos_token",
    "pad_token_id",
    "max_tokens",
    "top_k",
    "key",
    "keys",
    "sort_key",
    "prompt_cache_key",
    "num_key_value_heads",
    "pass_config",
    "compass",
    "passage",
    "author",
    "tokenizer",
    "max_num_batched_tokens",
    "stop_token_ids",
    "image_token",
    "secretary",
    "signature_version",
    "design",
    "post_pass",
    "num_passes",
    "skip_special_tokens",
    "logprobs",
    "passthrough",
    "cookiecutter",
]


@pytest.mark.parametrize("name", ALLOWED)
def test_a_setting_of_an_ordinary_name_is_no_secret(name: str) -> None:
    assert not names_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "hf_token",
        "Set-Cookie",
        "AWSAccessKeyId",
        "X-Amz-Credential",
        "key_password",
        "openai_key",
        "token",
        "auth",
        "SharedAccessKey",
    ],
)
def test_a_setting_that_holds_a_key_is_one(name: str) -> None:
    assert names_secret(name)


ORDINARY = [
    "0123456789abcdef",
    "9abbbb6d0a1b2c3e4f5a6b7c8d9e0f1a2b3c4d5e",
    "0f" * 32,
    "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "20260131T120000Z",
    "hugging-quants/Meta-Llama-3.1-8B-Instruct-GPTQ-INT4",
    "DeepSeek-R1-0528-Qwen3-8B-GPTQ-w4a16-g128-int8kv",
    "RedHatAI/Qwen2.5-7B-Instruct-quantized.w4a16",
    "antidisestablishmentarianism",
    "Donaudampfschifffahrtsgesellschaft",
    "expandable_segments:True",
    "/mnt/shared/runs/2026-01-31/hellaswag-seed-0",
    "s3://bucket/AWSLogs/123456789012/elasticloadbalancing/us-east-1/2026/01/31/part-00000",
    "sk-learn-baseline-2026",
    "hf_transformers_baseline",
    "hf_model_v20250101120000",
    "xai-explainability-bench0123456789",
    "pplx-eval-20250101-seed12345678901",
    "org/hf_llama3finetuned",
    "desk-lamp-0123456789ab",
    "session_2026-11-29_10-31-33_123456_789",
    "http://ray-head.default.svc.cluster.local:8000/v1",
    "fp8_e4m3fn",
    "",
    "https://api.cloudflare.com/client/v4/accounts/0123456789abcdef0123456789abcdef/ai/v1",
    "deepseekr1distillqwen7b",
    "gs://stack-data-1x2y3z4w5v6u7/runs",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_hashes_names_dates_paths_and_words_are_no_keys(text: str) -> None:
    assert not looks_secret(text)
    assert not holds_credentials(text)


@pytest.mark.parametrize(
    ("letters", "length"),
    [
        (string.ascii_letters + string.digits, 32),
        (string.ascii_letters + string.digits + "-_", 43),
        (string.ascii_lowercase + string.digits, 32),
        ("0123456789abcdef", 32),
    ],
)
def test_random_keys_are_told_by_their_letters(letters: str, length: int) -> None:
    draw = random.Random(0)
    keys = ["".join(draw.choice(letters) for _ in range(length)) for _ in range(2000)]
    assert sum(not looks_secret(key) for key in keys) <= 5


def test_the_engine_options_of_the_shipped_configurations_and_common_ones_are_taken() -> None:
    for path in Path("jobs/configs").glob("*.yaml"):
        check_inputs(ResolvedRun.of(load_config(path)), rows=False)
    common = (
        "{gpu_memory_utilization: 0.9, quantization: compressed-tensors, kv_cache_dtype: fp8_e4m3, "
        "enable_prefix_caching: true}"
    )
    request = (
        f"{{eos_token: '</s>', max_tokens: 5, top_k: 3, user: {refused.RANDOM}, prompt_cache_key: lab, "
        f"extra_headers: {{X-Trace: '{'0f' * 20}'}}}}"
    )
    generator = f"prompts.generators=[{{id: g, endpoint: {{base_url: 'https://h/v1', request: {request}}}}}]"
    check_inputs(
        ResolvedRun.of(load_config("jobs/configs/demo.yaml", [f"engine.engine_kwargs={common}", generator])), rows=False
    )
