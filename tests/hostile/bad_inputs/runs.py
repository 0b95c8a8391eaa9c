"""Runs of someone else's: their config.json and manifests are outside input to `evaluate RUN`, `export`, `compare`,
`report` and `audit`."""

import hashlib
import json

from paft_ray.config import builtin
from paft_ray.models.local import find_model
from paft_ray.storage.outputs import summed
from paft_ray.tasks.task import load_task
from tests.hostile.bad_inputs.case import Case, setting
from tests.hostile.bad_inputs.places import KEY, TRAINED, command, trained

NOT_TUNING = "not an argument that tunes memory"
EVIL = {
    "worker_cls": "os.system",
    "trust_remote_code": True,
    "logits_processors": ["evil:Processor"],
    "hf_overrides": {"architectures": ["Evil"]},
    "speculative_config": {"model": "owner/other"},
    "kv_transfer_config": {"kv_connector_module_path": "evil"},
    "reasoning_parser_plugin": "/tmp/evil.py",
    "otlp_traces_endpoint": "http://other:4317",
    "load_format": "pt",
    "model_impl": "transformers",
}


def run_config(**engine: object) -> str:
    return json.dumps({"name": "a", "task": "demo", "engine": {"engine_kwargs": engine}})


ARGUMENTS = [
    *(
        setting(
            f"engine argument {name}",
            f"'{name}': {NOT_TUNING}",
            f"engine.engine_kwargs={json.dumps({name: value})}",
            dry=True,
        )
        for name, value in EVIL.items()
    ),
    setting(
        "an engine argument that is ours",
        "is decided by engine.precision",
        "engine.engine_kwargs={dtype: float16}",
        dry=True,
    ),
    setting(
        "a tokenizer as an engine argument",
        "is decided by model.id",
        "engine.engine_kwargs={tokenizer: owner/other}",
        dry=True,
    ),
    setting(
        "an engine argument of another type",
        "Input should be a valid integer",
        "engine.engine_kwargs={max_num_seqs: yes}",
        dry=True,
    ),
    setting(
        "a class as executor",
        "Input should be 'uni', 'mp' or 'ray'",
        "engine.engine_kwargs={distributed_executor_backend: a.B}",
        dry=True,
    ),
]
DEMO = builtin("tasks", "data", "demo")
GIVEN = ("--templates", str(DEMO / "held_out_templates.jsonl"), "--test", str(DEMO / "test.jsonl"))
EVALUATE = ("evaluate", "{dir}", *GIVEN, "--out", "{dir}/o")
EXPORT = ("export", "{dir}", "--out", "{dir}/o")
CONFIGS = [
    *(
        command(
            f"a run with engine argument {name}, {to[0]}",
            NOT_TUNING,
            *to,
            config_json=run_config(**{name: EVIL[name]}),
            train__manifest_json=trained(),
        )
        for to in (EVALUATE, EXPORT)
        for name in ("worker_cls", "trust_remote_code", "hf_overrides")
    ),
    command(
        "a run with a plugin to compare",
        NOT_TUNING,
        "compare",
        "{dir}/a",
        "{dir}/b",
        a__config_json=run_config(io_processor_plugin="evil"),
    ),
]
PLAIN = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}


TASK = load_task("demo").model_dump(mode="json")
WHOLE_KEY = KEY | {"task": TASK, "model": KEY["model"] | {"identity": dict(find_model("demo", None).identity)}}


def manifest(*, key: object = None, **entry: object) -> str:
    """A train/manifest.json of one adapter, with something changed."""
    said = {**TRAINED, **entry}
    return json.dumps({"key": WHOLE_KEY if key is None else key, "time_s": 1.0, "outputs": {}, "models": [said]})


def _written(content: str) -> dict[str, str]:
    """A run with this adapter_config.json, and a manifest that vouches for it."""
    files = {"adapter_config.json": hashlib.sha256(content.encode()).hexdigest()}
    return {
        "train/paft-s0/adapter/adapter_config.json": content,
        "train/manifest.json": manifest(files=files, sha256=summed(files)),
    }


def both(given: str, says: str, **files: str) -> list[Case]:
    """A run for `evaluate RUN` and for `export`."""
    base = {"config_json": run_config(), "task_json": json.dumps(TASK), "train__manifest_json": manifest(), **files}
    return [command(f"{given}, {to[0]}", says, *to, **base) for to in (EVALUATE, EXPORT)]


def adapter(given: str, says: str, **changed: object) -> list[Case]:
    return both(given, says, **_written(json.dumps(PLAIN | changed)))


OTHER = "does not name what was trained as arm paft"
UNSAID, NOT_PLAIN = "is no manifest of stage train", "not the plain LoRA adapter that stage train writes"
MANIFESTS = [
    *both("a trained arm that is an option", UNSAID, train__manifest_json=manifest(arm="--trust-remote-code")),
    *both("a trained arm that leads elsewhere", UNSAID, train__manifest_json=manifest(arm="../../paft")),
    *both("a training seed with a line break", UNSAID, train__manifest_json=manifest(seed="0\n--trust-remote-code")),
    *both("a training seed beyond all numbers", UNSAID, train__manifest_json=manifest(seed=10**30)),
    *both("an adapter that climbs", OTHER, train__manifest_json=manifest(path="train/../../x")),
    *both("weights that climb", OTHER, train__manifest_json=manifest(kind="weights", path="..")),
    *both("an adapter that is a list", UNSAID, train__manifest_json=manifest(path=["x"])),
    *both(
        "no model in a manifest",
        UNSAID,
        train__manifest_json=json.dumps({"key": KEY, "time_s": 1.0, "outputs": {}, "models": []}),
    ),
    *both("a manifest whose key is a text", UNSAID, train__manifest_json=manifest(key="k")),
    *both(
        "prompt tokens that are text",
        UNSAID,
        train__manifest_json=manifest(key=KEY | {"model": KEY["model"] | {"max_prompt_tokens": "9 --x"}}),
    ),
    *both(
        "answer tokens beyond all numbers",
        UNSAID,
        train__manifest_json=manifest(key=KEY | {"task": KEY["task"] | {"max_answer_tokens": 10**12}}),
    ),
    *both("a training without steps", UNSAID, train__manifest_json=manifest(num_steps=-1)),
    *adapter(
        "an adapter of another kind", NOT_PLAIN, peft_type="PROMPT_TUNING", tokenizer_kwargs={"trust_remote_code": True}
    ),
    *adapter("an adapter of adapters elsewhere", NOT_PLAIN, peft_type="XLORA", adapters={"a": "owner/other"}),
    *adapter(
        "an adapter that names a module",
        "it sets megatron_config, megatron_core",
        megatron_config={"a": 1},
        megatron_core="evil",
    ),
    *adapter(
        "an adapter with a class",
        "it sets auto_mapping",
        auto_mapping={"base_model_class": "C", "parent_library": "evil"},
    ),
    *adapter("an adapter that repeats layers", "it sets layer_replication", layer_replication=[[0, 10**9]]),
    *adapter("an adapter of endless rank", "r: Input should be less than", r=10**12),
    *adapter("an adapter on a pattern of layers", NOT_PLAIN, target_modules="((a+)+)+$"),
    *adapter("an adapter that starts from the base", "it sets init_lora_weights", init_lora_weights="pissa"),
    *both("an adapter without its configuration", "adapter_config.json is missing"),
    *both("an adapter whose configuration is none", "not JSON", **_written("{")),
]
NAMES = [
    setting(f"storage with a coded {what}", "a character that does not show", f"storage=file://{{dir}}/a%{code}b")
    for what, code in {"NUL": "00", "line feed": "0A", "escape": "1b", "right-to-left mark": "E2%80%AE"}.items()
]
CASES: list[Case] = [*ARGUMENTS, *CONFIGS, *MANIFESTS, *NAMES]
