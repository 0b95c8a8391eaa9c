"""Models, storage, secrets, and runs whose files were changed by hand."""

import hashlib
import json

import pyarrow as pa

from paft_ray.storage.outputs import summed
from tests.hostile.bad_inputs.case import GOOD_CONFIG, GOOD_TASK, Case, parquet, setting

RUN_CONFIG = json.dumps({"name": "a", "task": "demo"})
KEY = {
    "train": {},
    "model": {"id": "demo", "max_prompt_tokens": 9, "identity": {}},
    "task": {"name": "t", "description": "d", "kind": "choice", "labels": {}, "max_answer_tokens": 9},
    "prompts": {},
    "versions": {},
}


FILES = {"adapter_config.json": "0" * 64}
TRAINED = {
    "arm": "paft",
    "seed": 0,
    "kind": "adapter",
    "path": "train/paft-s0/adapter",
    "sha256": summed(FILES),
    "files": FILES,
    "num_templates": 1,
    "num_steps": 1,
}


def command(given: str, says: str, *arguments: str, **files: object) -> Case:
    named = {
        name.replace("__", "/").replace("_json", ".json").replace("_parquet", ".parquet"): content
        for name, content in files.items()
    }
    return Case(given=given, arguments=arguments, says=says, files=named)  # type: ignore[arg-type]


def finished(**outputs: bytes) -> str:
    """The manifest of a stage with these outputs."""
    named = {path: hashlib.sha256(content).hexdigest() for path, content in outputs.items()}
    return json.dumps({"key": {}, "time_s": 1.0, "outputs": named})


def trained(**changed: object) -> str:
    """A train/manifest.json of one adapter, with something of it changed."""
    return json.dumps({"key": KEY, "time_s": 1.0, "outputs": {}, "models": [TRAINED | changed]})


MODELS = [
    setting("no such folder of a model", "no such folder", "model.id=./nowhere"),
    setting("a folder that is no model", "holds no config.json", "model.id={dir}"),
    setting("no such folder of a generator", "no such folder", "prompts.generators=[{id: ./nowhere}]"),
    setting("a model that climbs", "no such folder", "model.id=../../../nowhere"),
    setting(
        "a model of pickles",
        "holds no *.safetensors",
        "model.id={dir}/m",
        files={"m/config.json": "{}", "m/pytorch_model.bin": b"\x80\x04"},
    ),
    setting(
        "weights that are no safetensors",
        "no safetensors file",
        "model.id={dir}/m",
        files={"m/config.json": "{}", "m/model.safetensors": b"\xff" * 64},
    ),
]
STORAGE = [
    setting("storage that cannot be written", "cannot be written", "storage=/proc/none"),
    setting("a file in place of storage", "cannot be written", "storage={dir}/f", files={"f": "x"}),
    setting("storage of an unknown kind", "storage zz://bucket", "storage=zz://bucket"),
    setting("a path that looks like a URI", "neither a folder nor a URI", "storage=s3:/bucket"),
    setting("a bucket without a name", "neither a folder nor a URI", "storage=s3://"),
    setting("a loop of links as storage", "storage", "storage={dir}/l", files={"l -> l": ""}),
    setting("the home of nobody as storage", "storage ~nobody-has-this-name", "storage=~nobody-has-this-name/runs"),
]
MADE_UP_SECRET = "s3cr3t-made-up-0123456789"  # noqa: S105 (of nobody)
SECRETS = [
    setting(
        "a token for the engine",
        "engine.engine_kwargs.hf_token: secrets come from the environment",
        f"engine.engine_kwargs={{hf_token: {MADE_UP_SECRET}}}",
    ),
    setting(
        "a key deep in the engine's options",
        "secrets come from the environment only",
        f"engine.engine_kwargs={{a: [{{api_key: {MADE_UP_SECRET}}}]}}",
    ),
    setting(
        "a header with a key for an endpoint",
        "endpoint.request.Authorization: secrets come from the environment only",
        f"prompts.generators=[{{id: g, endpoint: {{base_url: 'http://h/v1', request: {{extra_headers: "
        f"{{Authorization: {MADE_UP_SECRET}}}}}}}}}]",
    ),
    setting(
        "a key in place of its variable's name",
        "never the key itself",
        f"prompts.generators=[{{id: g, endpoint: {{base_url: 'http://h', api_key_env: {MADE_UP_SECRET}}}}}]",
    ),
    setting(
        "a password in an endpoint's address",
        "without user, password",
        f"prompts.generators=[{{id: g, endpoint: {{base_url: 'http://me:{MADE_UP_SECRET}@h/v1'}}}}]",
    ),
    setting(
        "a password in a tracker's address",
        "the address holds credentials",
        f"tracking.mlflow=http://me:{MADE_UP_SECRET}@host",
    ),
    setting("a key in the storage's URI", "the URI holds credentials", f"storage=s3://me:{MADE_UP_SECRET}@bucket"),
    setting(
        "a key with a slash in the storage's URI",
        "storage s3://***@bucket",
        f"storage=s3://me:ab/{MADE_UP_SECRET}@bucket",
    ),
    setting(
        "a key in the options of the storage's URI",
        "the URI holds credentials",
        f"storage=s3://bucket?secret_key={MADE_UP_SECRET}",
    ),
    setting(
        "a user in an option of the storage's URI",
        "the URI holds credentials",
        f"storage=s3://bucket?endpoint_override=me:{MADE_UP_SECRET}@host",
    ),
    setting(
        "a key in the rows' URI",
        "data.train: the URI holds credentials",
        f"data.train=s3://me:{MADE_UP_SECRET}@bucket/rows.jsonl",
    ),
    setting(
        "a key in the URI of a task's rows",
        "sources.train of task t: the URI holds",
        "task={dir}/t.yaml",
        files={"t.yaml": GOOD_TASK.replace("{dir}/", f"s3://me:{MADE_UP_SECRET}@b/")},
    ),
    setting(
        "a key in a URI of an unknown kind",
        "***@bucket",
        f"prompts.seed_templates=s3://me:{MADE_UP_SECRET}@bucket/t.jsonl",
    ),
    setting(
        "a key in an override that is no YAML",
        "is not a YAML value",
        f"engine.engine_kwargs=s3://me:{MADE_UP_SECRET}@b: [",
    ),
    setting(
        "a key where a number is needed",
        "seed: Input should be a valid integer",
        f"seed=s3://me:{MADE_UP_SECRET}@bucket",
    ),
    command(
        "a key in the URI of a run",
        "the URI holds credentials",
        "prompts",
        "show",
        f"s3://me:{MADE_UP_SECRET}@bucket/run",
    ),
    command(
        "a key in the URIs of runs", "the URI holds credentials", "compare", f"s3://me:{MADE_UP_SECRET}@bucket/run", "b"
    ),
]
RUNS = [
    command(
        "a stage before the one it needs",
        "run stage prepare first",
        "evaluate",
        "jobs/configs/demo.yaml",
        "--set",
        "storage={dir}/runs",
        "--set",
        "name=a",
    ),
    command(
        "settings for a finished run",
        "takes --templates, --test, --out",
        "evaluate",
        "{dir}",
        "--templates",
        "t",
        "--test",
        "t",
        "--out",
        "o",
        "--set",
        "seed=1",
    ),
    command("no run", "stage synthesize is not finished", "prompts", "show", "{dir}/none"),
    command(
        "a prompt set that is no Parquet",
        "smaller than the minimum file footer",
        "prompts",
        "show",
        "{dir}",
        synthesize__prompt_set_parquet=b"PAR1",
        synthesize__manifest_json=finished(**{"synthesize/prompt_set.parquet": b"PAR1"}),
    ),
    command(
        "a prompt set of other columns",
        "not those of this version",
        "prompts",
        "show",
        "{dir}",
        synthesize__prompt_set_parquet=parquet(pa.table({"a": [1]})),
        synthesize__manifest_json=finished(**{"synthesize/prompt_set.parquet": parquet(pa.table({"a": [1]}))}),
    ),
    command("one run to compare", "at least two runs are needed", "compare", "{dir}"),
    command("a run twice to compare", "comes twice", "compare", "{dir}", "{dir}/"),
    command("a run without its configuration", "config.json is missing", "compare", "{dir}/a", "{dir}/b"),
    command(
        "a configuration in a run that is no JSON", "not JSON", "compare", "{dir}/a", "{dir}/b", a__config_json="{"
    ),
    command("a configuration in a run that is a list", "config", "compare", "{dir}/a", "{dir}/b", a__config_json="[]"),
    command(
        "a configuration in a run nested too deep",
        "not JSON",
        "compare",
        "{dir}/a",
        "{dir}/b",
        a__config_json="[" * 100_000,
    ),
    command("a run that was never trained", "train/manifest.json is missing", "export", "{dir}", "--out", "{dir}/o"),
    command(
        "a manifest that is a list",
        "is no manifest of stage train",
        "export",
        "{dir}",
        "--out",
        "{dir}/o",
        train__manifest_json="[]",
    ),
    command(
        "an arm that was not trained",
        "was not trained in this run",
        "export",
        "{dir}",
        "--arm",
        "sft",
        "--out",
        "{dir}/o",
        train__manifest_json=trained(),
    ),
    command(
        "an adapter that climbs out of the run",
        "does not name what was trained as arm paft",
        "export",
        "{dir}",
        "--out",
        "{dir}/o",
        train__manifest_json=trained(path="../../etc"),
        config_json=RUN_CONFIG,
    ),
    command(
        "a trained run whose manifest is a number",
        "is no manifest of stage train",
        "evaluate",
        "{dir}",
        "--templates",
        "t",
        "--test",
        "t",
        "--out",
        "o",
        train__manifest_json="3",
        config_json=RUN_CONFIG,
    ),
    command(
        "an unknown stage to submit",
        "--stage all: unknown; allowed: run",
        "submit",
        "jobs/configs/demo.yaml",
        "--stage",
        "all",
    ),
    Case(
        given="a run's storage below the working folder for a job",
        arguments=("submit", "{dir}/c.yaml"),
        says="a job's own folder goes away",
        files={"c.yaml": GOOD_CONFIG},
    ),
]
CASES = [*MODELS, *STORAGE, *SECRETS, *RUNS]
