"""The whole pipeline on the real small model: Ray Data + vLLM, Ray Train + DeepSpeed + PEFT. Invariant 10."""

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from paft_ray.artifacts import Run
from paft_ray.config import Config, load_config
from paft_ray.errors import UserError
from paft_ray.stages.pipeline import run_all

SMALL = (
    "name=tiny",
    "data.num_train=40",
    "data.num_validation=10",
    "data.num_test=6",
    "prompts.generators=[]",
    "score.enabled=false",
    "train.arms=[sft,paft]",
    "train.num_steps=3",
    "train.global_batch=8",
    "train.micro_batch=4",
    "train.checkpoint_every=2",
    "evaluate.speed_rows=2",
    "engine.timeout_s=300",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> tuple[Config, Run]:
    storage = tmp_path_factory.mktemp("runs")
    config = load_config("jobs/configs/demo.yaml", [*SMALL, f"storage={storage}"])
    run = Run.open(config.storage, config.name)
    run_all(config, run)
    return config, run


def test_every_arm_is_measured_on_every_held_out_template_and_test_row(finished: tuple[Config, Run]) -> None:
    _, run = finished
    outcomes = run.read_table("evaluate/outcomes.parquet").to_pandas()
    assert outcomes.groupby("arm").size().to_dict() == {"base": 72, "sft": 72, "paft": 72}
    assert (outcomes.groupby("arm")["template_id"].nunique() == 12).all()
    assert outcomes["logprob"].le(0).all()


def test_results_hold_the_stable_figures(finished: tuple[Config, Run]) -> None:
    _, run = finished
    results = run.read_json("report/results.json")
    assert set(results["arms"]) == {"base", "sft", "paft"}
    assert {"mean", "std", "worst", "best", "num_templates", "num_examples"} <= set(results["arms"]["paft"])
    assert results["arms"]["paft"]["num_templates"] == 12
    assert {"mean", "low", "high"} == set(results["differences"]["paft-sft"])
    assert results["engine_starts"] == 3
    assert results["peak_memory_gib"] > 0.5
    assert set(results["timings_s"]) >= {"data", "prompts", "train", "evaluate"}


def test_adapters_are_trained_and_differ_between_arms(finished: tuple[Config, Run]) -> None:
    _, run = finished
    sft, paft = (load_file(Path(run.root) / f"train/{arm}-s0/adapter/adapter_model.safetensors") for arm in ("sft", "paft"))
    learned = [name for name in sft if "lora_B" in name]
    assert learned
    assert all(abs(sft[name]).max() > 0 for name in learned)
    assert any(abs(sft[name] - paft[name]).max() > 1e-5 for name in learned)


def test_held_out_templates_are_not_among_those_trained_on(finished: tuple[Config, Run]) -> None:
    _, run = finished
    assert run.read_json("prompts/split.json")["largest_similarity"] < 0.7


def test_a_finished_run_is_not_run_again_and_a_changed_key_is_named(finished: tuple[Config, Run], capsys: pytest.CaptureFixture[str]) -> None:
    config, run = finished
    before = run.content_hash("evaluate/outcomes.parquet"), run.read_json("train/manifest.json")
    run_all(config, run)
    assert (run.content_hash("evaluate/outcomes.parquet"), run.read_json("train/manifest.json")) == before
    assert capsys.readouterr().out.count("finished before, kept") == 5
    changed = load_config("jobs/configs/demo.yaml", [*SMALL, f"storage={config.storage}", "train.learning_rate=0.5"])
    with pytest.raises(UserError, match=r"train\.learning_rate: 0\.001 -> 0\.5"):
        run_all(changed, run)
