"""Runs of someone else's: their config.json and manifests are outside input to `evaluate RUN`, `export`, `compare`, `report` and `audit`."""

import json

from tests.hostile.bad_inputs.case import Case, setting
from tests.hostile.bad_inputs.places import command, trained

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
        setting(f"engine argument {name}", f"'{name}': {NOT_TUNING}", f"engine.engine_kwargs={json.dumps({name: value})}", dry=True)
        for name, value in EVIL.items()
    ),
    setting("an engine argument that is ours", "is decided by engine.precision", "engine.engine_kwargs={dtype: float16}", dry=True),
    setting("a tokenizer as an engine argument", "is decided by model.id", "engine.engine_kwargs={tokenizer: owner/other}", dry=True),
    setting("an engine argument of another type", "Input should be a valid integer", "engine.engine_kwargs={max_num_seqs: yes}", dry=True),
    setting("a class as executor", "Input should be 'uni', 'mp' or 'ray'", "engine.engine_kwargs={distributed_executor_backend: a.B}", dry=True),
]
EVALUATE = ("evaluate", "{dir}", "--templates", "t", "--test", "t", "--out", "{dir}/o")
EXPORT = ("export", "{dir}", "--out", "{dir}/o")
CONFIGS = [
    *(
        command(f"a run with engine argument {name}, {to[0]}", NOT_TUNING, *to, config_json=run_config(**{name: EVIL[name]}), train__manifest_json=trained("x"))
        for to in (EVALUATE, EXPORT)
        for name in ("worker_cls", "trust_remote_code", "hf_overrides")
    ),
    command("a run with a plugin to compare", NOT_TUNING, "compare", "{dir}/a", "{dir}/b", a__config_json=run_config(io_processor_plugin="evil")),
]
CASES: list[Case] = [*ARGUMENTS, *CONFIGS]
