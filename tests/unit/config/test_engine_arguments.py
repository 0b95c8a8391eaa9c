"""`engine.engine_kwargs` holds what tunes an engine: nothing in it runs code, names a file or sends anything
elsewhere."""

import ast
import importlib.util
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest

from paft_ray.config import EngineConfig, parse_config
from paft_ray.config.engine_arguments import OWNED, TUNING, check_engine_arguments
from paft_ray.errors import UserError
from paft_ray.inference.vllm_args import engine_settings, serve_command

HOSTILE: list[tuple[str, Any]] = [
    ("trust_remote_code", True),
    ("trust-remote-code", True),
    ("worker_cls", "os.system"),
    ("worker_extension_cls", "evil.Worker"),
    ("scheduler_cls", "evil.Scheduler"),
    ("logits_processors", ["evil:Processor"]),
    ("load_format", "pt"),
    ("load_format", "safetensors"),
    ("model_loader_extra_config", {"a": 1}),
    ("pt_load_map_location", "cpu"),
    ("hf_overrides", {"architectures": ["Evil"]}),
    ("model_class_overrides", {"LlamaForCausalLM": "evil:Model"}),
    ("additional_config", {"a": "b"}),
    ("compilation_config", {"custom_ops": ["evil"]}),
    ("speculative_config", {"model": "owner/other"}),
    ("spec_model", "owner/other"),
    ("kv_transfer_config", {"kv_connector": "X", "kv_connector_module_path": "evil"}),
    ("ec_transfer_config", {}),
    ("kv_events_config", {"endpoint": "tcp://*:1"}),
    ("reasoning_parser_plugin", "/tmp/evil.py"),
    ("io_processor_plugin", "evil"),
    ("model_impl", "transformers"),
    ("config_format", "mistral"),
    ("tokenizer_mode", "custom"),
    ("generation_config", "/tmp"),
    ("otlp_traces_endpoint", "http://other:4317"),
    ("allowed_local_media_path", "/"),
    ("allowed_media_domains", ["other"]),
    ("download_dir", "/tmp"),
    ("log_config_file", "/tmp/x.json"),
    ("master_addr", "10.0.0.1"),
    ("data_parallel_address", "10.0.0.1"),
    ("profiler_config", {"torch_profiler_dir": "/tmp"}),
    ("no such argument", 1),
    ("", 1),
    ("MAX_NUM_SEQS", 1),
]
WRONG_VALUES: list[tuple[str, Any]] = [
    ("max_num_seqs", True),
    ("max_num_seqs", "8"),
    ("max_num_seqs", -1),
    ("max_num_seqs", 10**12),
    ("max_num_seqs", [8]),
    ("max_num_seqs", None),
    ("gpu_memory_utilization", 1.5),
    ("gpu_memory_utilization", {"a": 1}),
    ("gpu_memory_utilization", float("nan")),
    ("enforce_eager", 1),
    ("enforce_eager", "yes"),
    ("quantization", "evil.Config"),
    ("quantization", {"method": "fp8"}),
    ("distributed_executor_backend", "evil.Executor"),
    ("attention_backend", "CUSTOM"),
    ("kv_cache_dtype", "fp8; rm -rf /"),
]
GOOD: dict[str, Any] = {
    "gpu_memory_utilization": 0.9,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 8192,
    "block_size": 16,
    "enforce_eager": True,
    "cpu_offload_gb": 4,
    "quantization": "fp8",
    "kv_cache_dtype": "fp8",
    "enable_prefix_caching": False,
    "enable_expert_parallel": True,
    "pipeline_parallel_size": 2,
}


def config_with(arguments: dict[str, Any]) -> EngineConfig:
    return parse_config({"name": "r", "task": "demo", "engine": {"engine_kwargs": arguments}}, "RUN/config.json").engine


def test_what_tunes_is_taken_and_reaches_engine_and_server() -> None:
    engine = config_with(GOOD)
    assert engine.engine_kwargs == GOOD
    settings = engine_settings(engine, 99)
    assert {name: settings[name] for name in GOOD} == GOOD
    words = serve_command("folder", name="n", engine=engine, max_model_len=99)
    assert "--gpu-memory-utilization 0.9 " in words
    assert "--no-enable-prefix-caching" in words


@pytest.mark.parametrize(("name", "value"), HOSTILE + WRONG_VALUES)
def test_what_does_not_tune_is_refused_in_one_line_with_what_is_near(name: str, value: Any) -> None:
    with pytest.raises(UserError) as refused:
        config_with({"max_num_seqs": 8, name: value})
    line = str(refused.value)
    assert line.startswith("config RUN/config.json: engine.engine_kwargs")
    assert name in line
    assert "\n" not in line
    if (name, value) in HOSTILE:
        assert "nearest allowed: " in line
        assert "remove it" in line


@pytest.mark.parametrize("name", OWNED)
def test_what_another_setting_decides_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(UserError, match="is decided by ") as refused:
        config_with({name: 1})
    assert OWNED[name] in str(refused.value)


def test_a_value_that_got_past_the_checks_changes_nothing_that_is_fixed() -> None:
    engine = EngineConfig(precision="fp32").model_copy(
        update={
            "engine_kwargs": {
                "trust_remote_code": True,
                "load_format": "pt",
                "dtype": "float16",
                "max_model_len": 1,
                "host": "0.0.0.0",  # noqa: S104
            }
        }
    )
    settings = engine_settings(engine, 99)
    assert (settings["trust_remote_code"], settings["load_format"], settings["dtype"], settings["max_model_len"]) == (
        False,
        "safetensors",
        "float32",
        99,
    )
    words = shlex.split(serve_command("folder", name="--trust-remote-code", engine=engine, max_model_len=99))
    assert "--trust-remote-code" not in words
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert "--served-model-name=--trust-remote-code" in words, "a name is never an option"


def test_the_list_names_arguments_and_words_of_the_installed_engine() -> None:
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vLLM is not installed")
    package = Path(spec.origin).parent
    tree = ast.parse((package / "engine" / "arg_utils.py").read_text())
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "EngineArgs")
    known = {node.target.id for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    assert set(TUNING) | set(OWNED) <= known
    sources = [
        *(package / "config").glob("*.py"),
        package / "model_executor/layers/quantization/__init__.py",
        package / "v1/attention/backends/registry.py",
    ]
    text = "".join(path.read_text() for path in sources)
    words = {word for kind in TUNING.values() for word in get_args(kind) if isinstance(word, str)}
    assert not {word for word in words if word not in text}


def test_no_word_is_a_place() -> None:
    check_engine_arguments(GOOD)
    words = [word for kind in TUNING.values() for word in get_args(kind) if isinstance(word, str)]
    assert len(words) > 40
    assert not [word for word in words if set(word) & set("./:\\ ")]


def test_an_engine_on_a_gpu_reads_whole_prompts_and_leaves_a_users_batches_alone() -> None:
    plain = engine_settings(EngineConfig(num_gpus=1), 20_000)
    assert (plain["max_num_batched_tokens"], plain["max_num_seqs"]) == (20_000, 256)
    own = engine_settings(EngineConfig(num_gpus=1, engine_kwargs={"max_num_batched_tokens": 128}), 99)
    assert own["max_num_batched_tokens"] == 128
    assert "max_num_seqs" not in own, "vLLM takes no more sequences than tokens"
