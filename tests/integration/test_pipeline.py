"""The whole pipeline on the real small model: Ray Data + vLLM, Ray Train + DeepSpeed + PEFT. Invariant 10."""

import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from paft_ray.config import Config
from paft_ray.errors import UserError
from paft_ray.models.resolve import load_tokenizer
from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.stages.pipeline import run_all
from paft_ray.stages.prepare import examples_of
from paft_ray.storage.outputs import file_digest
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task
from tests.support.resolved import resolved


def test_every_arm_is_measured_on_every_held_out_template_and_test_row(finished: tuple[Config, Store]) -> None:
    _, run = finished
    outcomes = run.read_table("evaluate/outcomes.parquet").to_pandas()
    assert outcomes.groupby("arm").size().to_dict() == {"base": 72, "sft": 72, "paft": 72}
    assert (outcomes.groupby("arm")["template_id"].nunique() == 24).all()
    assert outcomes["logprob"].le(0).all()
    assert outcomes[["behavior", "strict"]].isin([0, 1]).all(axis=None)
    assert (outcomes["strict"] <= outcomes["behavior"]).all()
    assert (outcomes["behavior"] == (outcomes["named"] == outcomes["answer"])).all()
    assert outcomes["num_tokens"].between(1, 16).all()
    assert outcomes["label_logprobs"].map(lambda row: sum(map(math.exp, row))).between(1 - 1e-4, 1 + 1e-4).all()
    speed = run.read_json("evaluate/speed.json")
    assert {row["num_asked"] for row in speed.values()} == {2}
    assert all("a mean of right answers needs 64" in row["reason"] for row in speed.values())


def test_results_hold_the_stable_figures(finished: tuple[Config, Store]) -> None:
    _, run = finished
    results = run.read_json("report/results.json")
    assert set(results["arms"]) == {"base", "sft", "paft"}
    assert {"mean", "std", "worst", "best", "num_templates", "num_examples"} <= set(results["arms"]["paft"])
    assert results["arms"]["paft"]["num_templates"] == 24
    assert {"mean", "low", "high"} <= set(results["differences"]["paft-sft"])
    assert results["engine_starts"] == 1
    assert results["peak_memory_gib"] > 0.5
    assert set(results["timings_s"]) >= {"prepare", "synthesize", "train", "evaluate"}


def test_adapters_are_trained_and_differ_between_arms(finished: tuple[Config, Store]) -> None:
    _, run = finished
    sft, paft = (
        load_file(Path(run.root) / f"train/{arm}-s0/adapter/adapter_model.safetensors") for arm in ("sft", "paft")
    )
    learned = [name for name in sft if "lora_B" in name]
    assert learned
    assert all(abs(sft[name]).max() > 0 for name in learned)
    assert any(abs(sft[name] - paft[name]).max() > 1e-5 for name in learned)


def test_the_merged_adapter_answers_in_vllm_as_the_adapter_does_in_peft(
    finished: tuple[Config, Store], demo_model: str
) -> None:
    """Invariant 11: labels agree, or the two labels are within 0.05 nats."""
    config, run = finished
    encoder = Encoder(
        load_task(config.task), load_tokenizer(demo_model), max_prompt_tokens=config.model.max_prompt_tokens
    )
    templates = {t.id: t for t in PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet")).templates}
    examples = {e.id: e for e in examples_of(run, "test")}
    base = AutoModelForCausalLM.from_pretrained(demo_model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, run.path("train/paft-s0/adapter")).eval()
    rows = [row for row in run.read_table("evaluate/outcomes.parquet").to_pylist() if row["arm"] == "paft"]
    for row in rows:
        encoded = encoder.encode(templates[row["template_id"]], examples[row["example_id"]])
        labels = {label: ids[0] for label, ids in encoder.label_ids(encoded.after_newline).items()}
        with torch.no_grad():
            scores = torch.log_softmax(
                model(torch.tensor([encoded.prompt_ids])).logits[0, -1, list(labels.values())], 0
            )
        found = dict(zip(labels, scores.tolist(), strict=True))
        assert found[row["answer"]] == pytest.approx(row["logprob"], abs=0.05)
        assert row["predicted"] == max(found, key=found.__getitem__) or abs(scores[0] - scores[1]) < 0.05


def test_held_out_templates_are_not_among_those_trained_on(finished: tuple[Config, Store]) -> None:
    _, run = finished
    assert run.read_json("synthesize/split.json")["largest_similarity"] < 0.7


def test_a_finished_run_is_not_run_again_and_a_changed_key_is_named(
    finished: tuple[Config, Store], capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = finished
    before = file_digest(run, "evaluate/outcomes.parquet"), run.read_json("train/manifest.json")
    run_all(resolved(config, run))
    assert (file_digest(run, "evaluate/outcomes.parquet"), run.read_json("train/manifest.json")) == before
    assert capsys.readouterr().out.count("up to date, skipping") == 5
    changed = config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": 0.5})})
    with pytest.raises(UserError, match=rf"train\.learning_rate: {config.train.learning_rate} -> 0\.5"):
        run_all(resolved(changed, run))
