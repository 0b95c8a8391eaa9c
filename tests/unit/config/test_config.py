"""The configuration: strict, with the nearest valid key, and overrides that are YAML."""

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from paft_ray.cli.dry_run import plan
from paft_ray.config import (
    Config,
    EngineConfig,
    EveryKConfig,
    LoraConfig,
    ModelConfig,
    TrainConfig,
    input_key,
    load_config,
    parse_config,
)
from paft_ray.errors import UserError
from paft_ray.tasks.task import load_task

GOOD = {"name": "a", "task": "demo"}


def load(tmp_path: Path, text: str, *overrides: str) -> Config:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return load_config(path, overrides)


def test_overrides_are_yaml_values_below_their_section(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "name: a\ntask: demo\ntrain: {num_steps: 4, num_epochs: null}\n",
        "train.num_steps=9",
        "train.seeds=[1, 2]",
        "train.lora=null",
        "data.train=my.csv",
        "engine.engine_kwargs.max_num_seqs=8",
    )
    assert (config.train.num_steps, config.train.seeds, config.train.lora, config.data.train) == (
        9,
        (1, 2),
        None,
        "my.csv",
    )
    assert config.engine.engine_kwargs == {"max_num_seqs": 8}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lora.rnak=4", "unknown key train.lora.rnak; did you mean train.lora.rank"),
        ("prompts.zzz=4", "unknown key prompts.zzz; allowed: decisions"),
        ("train.lora.rank=0", r"train.lora.rank: .*greater than 0 \(given 0\)"),
        ("train.precision=int8", "train.precision: .*'bf16', 'fp16' or 'fp32'"),
        ("train.arms=[paft, best]", "train.arms.1"),
        ("name.x=1", "name has no keys below it|name.* no keys below"),
        ("=3", "write section.key=value"),
        ("train.num_steps=[", "is not a YAML value"),
        ("train.sampling.k=2", "train.sampling.type is required; allowed: per_example, every_k"),
        ("train.sampling={type: all}", "train.sampling: .*'per_example', 'every_k'"),
        ("train.sampling={type: every_k, K: 2}", "unknown key train.sampling.K; allowed: k, over, type"),
    ],
)
def test_a_wrong_override_says_what_is_allowed(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path, "name: a\ntask: demo\n", override)


def test_a_key_of_a_generator_in_a_list_is_checked_too() -> None:
    with pytest.raises(
        UserError, match=r"prompts\.generators\.0\.temprature; did you mean prompts\.generators\.0\.temperature"
    ):
        parse_config({**GOOD, "prompts": {"generators": [{"temprature": 1}]}}, "x")


def test_what_is_required_is_named() -> None:
    with pytest.raises(UserError, match="config x: name is required; task is required"):
        parse_config({}, "x")


@pytest.mark.parametrize("text", ["- a\n", "3\n", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="a mapping of sections is needed"):
        load(tmp_path, text)


def test_a_configuration_survives_its_own_dump() -> None:
    config = parse_config(GOOD, "x")
    assert parse_config(config.model_dump(mode="json"), "x") == config


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The model and all models in its fields."""
    kinds = [kind for field in model.model_fields.values() for kind in (field.annotation, *get_args(field.annotation))]
    return [
        model,
        *(
            found
            for kind in kinds
            if isinstance(kind, type) and issubclass(kind, BaseModel)
            for found in sections(kind)
        ),
    ]


def test_every_field_of_a_section_is_documented() -> None:
    found = sections(Config)[1:]
    assert LoraConfig in found
    assert [
        f"{model.__name__}.{name}"
        for model in found
        for name, field in model.model_fields.items()
        if not field.description
    ] == []


CONFIGS = Path(__file__).parents[3] / "jobs" / "configs"
PAPER_SCALE = [
    *(f"llama3-8b-{task}" for task in ("hellaswag", "piqa", "winogrande", "race", "gsm8k")),
    "qwen2.5-7b-hellaswag",
]


def test_every_shipped_configuration_is_known_here() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {"demo", "sst2", *PAPER_SCALE}


@pytest.mark.parametrize("name", ["demo", "sst2", *PAPER_SCALE])
def test_shipped_configurations_are_valid_and_plan(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml")
    assert config.name == name
    assert "training_workers" in plan(config)


@pytest.mark.parametrize("name", PAPER_SCALE)
def test_paper_scale_configurations_have_the_papers_hyper_parameters(name: str) -> None:
    """arXiv 2502.12859 and its released configuration: 400 candidates split 8:1, K = 4, 3 epochs, LoRA rank 8 on q and
    v, 1e-4 cosine with warm-up 0.1."""
    config = load_config(CONFIGS / f"{name}.yaml")
    train, lora = config.train, config.train.lora
    assert name.endswith(f"-{config.task}")
    assert (config.model.max_prompt_tokens, config.prompts.num_candidates, config.prompts.min_held_out) == (
        1024,
        400,
        44,
    )
    assert config.prompts.held_out_fraction == pytest.approx(1 / 9)
    assert (train.sampling, train.num_epochs, train.global_batch) == (EveryKConfig(k=4), 3, 8)
    assert (train.learning_rate, train.schedule, train.warmup_fraction) == (1e-4, "cosine", 0.1)
    assert lora is not None
    assert (lora.rank, lora.target_modules) == (8, ("q_proj", "v_proj"))


def test_precision_follows_the_device_and_what_is_written_down_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = tmp_path / "cpuinfo"
    monkeypatch.setattr("paft_ray.config.base._CPUINFO", cpu)
    cpu.write_text("flags : fma avx2\n")
    assert (EngineConfig().precision, TrainConfig().precision) == ("fp32", "fp32")
    assert (EngineConfig(num_gpus=1).precision, TrainConfig(gpus_per_worker=1).precision) == ("bf16", "bf16")
    assert EngineConfig(precision="bf16").precision == "bf16"
    cpu.write_text("flags : fma avx2 avx512f avx512_bf16\n")
    assert (EngineConfig().precision, TrainConfig().precision) == ("bf16", "bf16")
    assert EngineConfig.model_validate({"precision": "fp32"}).precision == "fp32"


def test_a_generator_behind_an_endpoint_is_no_model_that_the_cluster_reads_and_starts_no_engine() -> None:
    outside = {"id": "gpt-x", "endpoint": {"base_url": "https://api.example.com/v1"}}
    config = load_config("jobs/configs/demo.yaml").model_dump()
    config["prompts"]["generators"] = [{"id": "demo"}, outside]
    found = parse_config(config, source="test")
    assert found.models == (("demo", None), ("demo", None))
    for stage in ("run", "sweep"):
        assert f"synthesize_at_most: {found.prompts.max_rounds + 1}\n" in plan(found, stage)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("storage=/data/run #1", "/data/run #1"),
        ("storage=/data/run: 1", "/data/run: 1"),
        ("storage=/data/#1", "/data/#1"),
        ("storage=#1", "#1"),
        ("storage=*new*/runs", "*new*/runs"),
        ("storage=&runs x", "&runs x"),
        ("storage=@home", "@home"),
        ("storage=[runs] {1}", "[runs] {1}"),
        ("storage='/data/run #1'", "/data/run #1"),
        ('storage="/data/run"', "/data/run"),
        ("name=007", "007"),
        ("name=1e3", "1e3"),
        ("name=on", "on"),
        ("name=2024-01-01", "2024-01-01"),
        ("model.revision=00123456", "00123456"),
        ("data.train=my rows, #2.csv", "my rows, #2.csv"),
        ("data.train=null", None),
        ("data.train=", None),
    ],
)
def test_a_key_that_takes_text_gets_what_is_given(tmp_path: Path, override: str, value: str | None) -> None:
    found: Any = load(tmp_path, "name: a\ntask: demo\n", override)
    for part in override.partition("=")[0].split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    "override",
    [
        "train.num_steps=10 # as in the paper",
        "train.num_steps=# none",
        "engine.engine_kwargs={max_num_seqs: 8} # few",
        "train.seeds=[1, 2] #3",
        "storage='/data' #1",
        "prompts.generators=[{id: demo}] # one",
    ],
)
def test_an_override_of_which_yaml_would_leave_out_a_part_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError, match="would leave it out; put the text into quotes, or take it away"):
        load(tmp_path, "name: a\ntask: demo\n", override)


def test_a_number_sign_that_is_no_comment_is_kept(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "name: a\ntask: demo\n",
        "sweep={space: {learning_rate: {loguniform: [1.0e-4, 1.0e-2]}}, searcher: {name: optuna, options: "
        "{points_to_evaluate: [{a: 'x #1', b: x#1}]}}}",
    )
    assert config.sweep.searcher is not None
    assert config.sweep.searcher.options == {"points_to_evaluate": [{"a": "x #1", "b": "x#1"}]}


def test_a_home_is_expanded_wherever_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "t.yaml").write_text(
        "name: t\nkind: choice\ndescription: d\nfields: {text: the text}\nlabels: [bad, good]\n"
        "sources: {train: {path: ~/rows.jsonl}}\nseed_templates: ~/seed.jsonl\nheld_out_templates: ~/held.jsonl\n"
    )
    text = (
        "name: a\ntask: ~/t.yaml\nprompts: {seed_templates: ~/a.jsonl, held_out_templates: builtin}\ndata: "
        "{validation: ~/b.csv}\n"
    )
    load(tmp_path, text)
    config = load_config("~/c.yaml", ["data.test=~/d.parquet"])
    task = load_task(config.task)
    assert config.prompts.seed_templates == f"{tmp_path}/a.jsonl"
    assert config.prompts.held_out_templates == "builtin"
    assert (config.data.train, config.data.validation, config.data.test) == (
        None,
        f"{tmp_path}/b.csv",
        f"{tmp_path}/d.parquet",
    )
    assert task.sources["train"].path == f"{tmp_path}/rows.jsonl"
    assert (task.seed_templates, task.held_out_templates) == (f"{tmp_path}/seed.jsonl", f"{tmp_path}/held.jsonl")


def test_what_is_finished_without_a_chat_template_stays_finished() -> None:
    settings = {"id": "demo", "revision": None, "chat": False, "max_prompt_tokens": 512, "truncate_field": None}
    assert input_key(ModelConfig()) == settings
    assert input_key(ModelConfig(chat=True)) == {**settings, "chat": True, "chat_template_kwargs": {}}


@pytest.mark.parametrize("number", ["0x" + "f" * 5000, ":".join(["59"] * 3000), "-0b" + "1" * 2000])
def test_a_number_too_long_to_write_in_an_error_is_refused(tmp_path: Path, number: str) -> None:
    with pytest.raises(UserError, match="is not a YAML value"):
        load(tmp_path, "name: a\ntask: demo\n", f"train.num_steps={number}")
    with pytest.raises(UserError, match="is not of its type int"):
        load(tmp_path, f"name: a\ntask: demo\nseed: {number}\n")


def test_of_many_unknown_keys_the_first_are_told() -> None:
    with pytest.raises(UserError) as error:
        parse_config({"name": "a", "task": "demo", **{f"key{i}": i for i in range(2_000)}}, "RUN/config.json")
    assert str(error.value).count("unknown key") == 20


@pytest.mark.parametrize(
    "override",
    ["data.num_train=010", "data.num_train=0100", "train.num_steps=1:30", "train.learning_rate=1:30.5", "seed=-012"],
)
def test_a_number_that_yaml_reads_in_another_base_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError, match=rf"--set {override}: YAML reads .* write a plain decimal number"):
        load(tmp_path, "name: a\ntask: demo\n", override)


@pytest.mark.parametrize(
    ("override", "seed"), [("seed=007", 7), ("seed=10", 10), ("seed=1_000", 1000), ("seed=0x10", 16), ("seed=0", 0)]
)
def test_a_number_that_yaml_reads_as_it_is_meant_passes(tmp_path: Path, override: str, seed: int) -> None:
    assert load(tmp_path, "name: a\ntask: demo\n", override).seed == seed
