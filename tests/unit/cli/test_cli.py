"""The command line: fast help, plans without Ray, prompt import, exit codes."""

import json
import resource
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from paft_ray.capacity import trained_weights
from paft_ray.cli import preflight
from paft_ray.cli.main import main
from paft_ray.cli.resources import check_resources
from paft_ray.config import TrainConfig, load_config
from paft_ray.errors import StageError, UserError
from paft_ray.models.files import shapes
from paft_ray.prompts.imports import import_templates
from paft_ray.prompts.prompt_set import read_templates
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages.pipeline import run_stage
from paft_ray.stages.registry import STAGES
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task

DEMO = "jobs/configs/demo.yaml"
PUBLISHED = Path(__file__).parents[4] / "shared/data/prompts/winogrande.jsonl"


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def test_help_imports_none_of_the_large_libraries() -> None:
    code = (
        "import sys; import paft_ray.cli.main; print([m for m in ('ray', 'torch', 'transformers', 'pyarrow', "
        "'pandas') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_takes_under_two_seconds() -> None:
    """Of processor time, so that other work on the machine does not count; 0.6 to 1.1 s have been seen."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = subprocess.run([sys.executable, "-m", "paft_ray", "--help"], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.0
    assert "Would a run start" in shown.stdout


def test_the_job_script_of_a_measurement_takes_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ["demo", "--task", "nowhere", "--out", str(tmp_path / "out"), "--suite", "all"]
    monkeypatch.setattr(sys, "argv", ["jobs/robustness.py", *given])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path("jobs/robustness.py", run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("paft: task nowhere: no such task")


@pytest.mark.parametrize("script", sorted({path.name for path in Path("jobs").glob("*.py")} - {"robustness.py"}))
def test_a_job_script_takes_the_options_of_its_command(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"jobs/{script}", "nowhere.yaml", "--force"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(f"jobs/{script}", run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("paft: config nowhere.yaml: cannot be read")


def test_a_plan_shows_configuration_loss_mask_and_estimates_without_ray(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run_cli(
        capsys, "run", DEMO, "--dry-run", "--set", "train.num_steps=7", "--set", f"storage={tmp_path}/runs"
    )
    assert code == 0
    assert "num_steps: 7" in out
    assert "Answer: |  positive<|im_end|>" in out
    assert out.count("prompt tokens without loss | 2 with loss") == 3
    assert "training_rows_each: 28" in out
    assert "4 models x 24 held-out templates x 40 rows = 3840" in out
    assert not (tmp_path / "runs").exists()


def test_a_budget_shrinks_the_planned_prompts_and_a_sweep_refuses_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = ("--set", "evaluation.budget=0.1", "--set", f"storage={tmp_path}/runs")
    code, out, _ = run_cli(capsys, "run", DEMO, "--dry-run", *settings)
    assert code == 0
    assert "4 models x 24 held-out templates x 40 rows x 10 % of the cells = 384" in out
    config = load_config(DEMO, ["evaluate.budget=0.1", f"storage={tmp_path}/runs"])
    with pytest.raises(UserError, match=r"evaluate\.budget=0\.1: a sweep answers all cells"):
        preflight.check(ResolvedRun.of(config), "sweep", local=True)


def test_the_best_checkpoint_needs_a_task_with_labels_and_no_sweep(tmp_path: Path) -> None:
    config = load_config(DEMO, ["train.export=q0.1", f"storage={tmp_path}/runs"])
    preflight.check_inputs(ResolvedRun.of(config), rows=False)
    with pytest.raises(
        UserError, match=r"train\.export=q0\.1: a sweep compares trials at their last step; leave it out"
    ):
        preflight.check(ResolvedRun.of(config), "sweep", local=True)
    free = load_config(DEMO, ["train.export=worst", "task=gsm8k"])
    with pytest.raises(
        UserError,
        match=r"train\.export=worst: task gsm8k has no labels to measure accuracy with; set train\.export=last",
    ):
        preflight.check_inputs(ResolvedRun.of(free), rows=False)


@pytest.mark.parametrize("primary", ["sft-paft", "paft-top_accuracy", "paft", "base-base"])
@pytest.mark.parametrize("command", ["run", "sweep", "evaluate", "submit"])
def test_a_primary_comparison_that_the_run_does_not_make_is_refused_before_it_starts(
    command: str, primary: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("train.arms=[sft,paft]", f"report.primary={primary}", f"storage={tmp_path}/runs")
    options = [part for setting in settings for part in ("--set", setting)]
    code, out, err = run_cli(capsys, command, DEMO, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"report.primary={primary}: " in err
    assert "allowed: paft-sft, paft-base, sft-base" in err
    assert not (tmp_path / "runs").exists()


def test_a_primary_comparison_of_any_two_arms_is_taken(tmp_path: Path) -> None:
    for primary in ("paft-sft", "sft-base", "paft-base"):
        settings = ["train.arms=[paft,sft]", f"report.primary={primary}", f"storage={tmp_path}/runs"]
        preflight.check_inputs(ResolvedRun.of(load_config(DEMO, settings)), rows=False)


def test_the_plan_of_a_hub_model_on_gpus_needs_neither(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_cli(capsys, "run", "jobs/configs/llama3-8b-hellaswag.yaml", "--dry-run")
    assert code == 0
    assert "4 x (1 CPU, 1 GPU)" in out
    assert "3 epochs of a data set on a hub" in out


def test_adapter_size_is_counted_from_the_heads_of_the_weight_files(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    layer = {"self_attn.q_proj": (6, 4), "self_attn.v_proj": (2, 4), "mlp.up_proj": (8, 4)}
    tensors = {
        f"model.layers.{i}.{name}.weight": np.zeros(shape, np.float32)
        for i in range(2)
        for name, shape in layer.items()
    }
    save_file({**tensors, "model.embed_tokens.weight": np.zeros((50, 4), np.float32)}, tmp_path / "model.safetensors")
    found = shapes(str(tmp_path))
    assert trained_weights(TrainConfig(lora=None), found) == 2 * (24 + 8 + 32) + 200
    assert trained_weights(TrainConfig.model_validate({"lora": {"rank": 8}}), found) == 8 * 2 * (10 + 6 + 12)
    assert (
        trained_weights(TrainConfig.model_validate({"lora": {"rank": 8, "target_modules": ["q_proj"]}}), found)
        == 8 * 2 * 10
    )


def test_import_prints_the_counts_and_writes_the_kept_templates(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    texts = ["Good or bad?\\n{text}", "Good or bad?\n{text}", "[describe the task] {text}", "no field"]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    out_file = tmp_path / "new" / "own.parquet"
    code, out, _ = run_cli(
        capsys, "prompts", "import", str(tmp_path / "own.jsonl"), "--task", "demo", "--out", str(out_file), "--json"
    )
    assert code == 0
    counts = json.loads(out)
    assert (counts["read"], counts["kept"], counts["repaired"]) == (4, 1, {"literal_newline": 1})
    assert sum(counts["rejected"].values()) == 3
    assert pq.read_table(out_file).num_rows == 1


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_imported_templates_keep_their_order(capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    """The first one is that of arm sft."""
    texts = [f"Wording {name}: good or bad? {{text}}" for name in "zyxwvutsrq"]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    given = (str(tmp_path / "own.jsonl"), "--task", "demo", "--out", str(tmp_path / f"out.{kind}"))
    assert run_cli(capsys, "prompts", "import", *given)[0] == 0
    assert [template.text for template in read_templates(tmp_path / f"out.{kind}")] == texts


def test_models_that_would_write_in_vain_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Without seed templates no judge is trusted."""
    given = ["run", DEMO, "--dry-run", "--set", f"storage={tmp_path}", "--set", "train.arms=[paft]"]
    given += ["--set", "prompts.seed_templates=null", "--set"]
    code, _, err = run_cli(capsys, *given, "prompts.generators=[{id: demo}]")
    assert code == 2
    assert "nothing that the generators write would be used" in err
    filled = "prompts.generators=[{id: demo}, {type: grammar}]"
    assert run_cli(capsys, *given, filled)[0] == 0
    config = load_config(DEMO, ["train.arms=[paft]", "prompts.seed_templates=null", filled])
    preflight.warn_of_writers(config, ([], []))
    assert "what models write is used only where a person accepts it" in capsys.readouterr().out
    preflight.warn_of_writers(load_config(DEMO), ([PromptTemplate(text="{text}")], []))
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not PUBLISHED.exists(), reason="../shared is absent")
def test_a_published_set_is_repaired_and_its_duplicates_are_rejected(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run_cli(
        capsys,
        "prompts",
        "import",
        str(PUBLISHED),
        "--task",
        "winogrande",
        "--out",
        str(tmp_path / "w.parquet"),
        "--json",
    )
    counts = json.loads(out)
    assert code == 0
    assert counts["read"] == counts["kept"] + sum(counts["rejected"].values())
    assert counts["rejected"]["duplicate"] >= 24
    assert counts["repaired"]["literal_newline"] > 100


def test_generate_writes_templates_that_import_keeps_with_their_frames_and_overwrites_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out_file = tmp_path / "new" / "piqa.jsonl"
    asked = ("prompts", "generate", "--task", "piqa", "--type", "grammar", "--num", "12", "--out", str(out_file))
    code, out, _ = run_cli(capsys, *asked)
    assert (code, out) == (0, f"12 templates of 12 frames, 12 clusters: {out_file}\n")
    rows = [json.loads(line) for line in out_file.read_text().splitlines()]
    assert all(row["frame"].startswith(row["group"]) for row in rows)
    result = import_templates([str(out_file)], load_task("piqa"), 120)
    assert [(t.text, t.group, t.frame) for t in result.kept] == [(r["text"], r["group"], r["frame"]) for r in rows]
    code, _, err = run_cli(capsys, *asked)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "is there and is not overwritten" in err
    assert [json.loads(line) for line in out_file.read_text().splitlines()] == rows


def test_generate_refuses_a_task_whose_description_is_no_request(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    task = tmp_path / "t.yaml"
    task.write_text("{name: t, kind: choice, description: Sentiment., fields: {text: the text}, labels: [good, bad]}")
    out_file = tmp_path / "t.jsonl"
    code, _, err = run_cli(capsys, "prompts", "generate", "--task", str(task), "--out", str(out_file))
    assert (code, len(err.splitlines())) == (2, 1)
    assert "description: 'Sentiment.' does not begin with a verb" in err
    assert not out_file.exists()


def test_import_refuses_a_place_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"text": "Good or bad? {text}"}\n')
    code, _, err = run_cli(
        capsys, "prompts", "import", str(tmp_path / "own.jsonl"), "--task", "demo", "--out", "/proc/none/a.parquet"
    )
    assert (code, len(err.splitlines())) == (2, 1)
    assert "cannot be written" in err


def test_a_run_without_training_is_refused_by_evaluate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run_cli(
        capsys, "evaluate", str(tmp_path), "--templates", "a.jsonl", "--test", "b.jsonl", "--out", str(tmp_path / "out")
    )
    assert (code, len(err.splitlines())) == (2, 1)
    assert "train/manifest.json is missing, so stage train is not finished" in err


def test_evaluate_with_a_run_names_the_options_it_needs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run_cli(capsys, "evaluate", str(tmp_path))
    assert code == 2
    assert "needs --templates FILE, --test FILE and --out DIR" in err


def test_a_failed_stage_exits_with_1_and_names_run_and_stage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paft_ray.cli import main as module

    def fails(resolved: object, *, force: bool) -> dict[str, object]:
        raise StageError("3 of 10 rows failed")

    def command(*_: object, **__: object) -> None:
        run_stage(
            replace(STAGES["score"], load=lambda: fails),
            ResolvedRun.of(load_config(DEMO), Store(str(tmp_path / "mine"))).with_model(),
        )

    monkeypatch.setattr(module, "run_stage", command)
    code, _, err = run_cli(capsys, "score", DEMO)
    assert code == 1
    assert (
        err == f"paft: run mine ({tmp_path}/mine), stage score: 3 of 10 rows failed; finished stages are kept: start "
        "the same command again to resume\n"
    )


def test_an_interrupted_run_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paft_ray.cli import session

    def interrupted(address: str | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "ray_session", interrupted)
    code, _, err = run_cli(capsys, "prepare", DEMO, "--set", f"storage={tmp_path}")
    assert code == 130
    assert "start the same command again" in err
    assert len(err.splitlines()) == 1


def test_a_job_refuses_a_relative_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(UserError, match="a job's own folder goes away"):
        preflight.check(ResolvedRun.of(load_config(DEMO)), "prepare", local=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "train.num_workers=4",
            "train.num_workers x cpus_per_worker asks for 4 CPUs, allowed are 3 (one is left for Ray Data)",
        ),
        ("train.gpus_per_worker=1", "asks for 2 GPUs, allowed are 0"),
        ("engine.replicas=4", "engine.replicas x tensor_parallel x num_cpus asks for 4 CPUs"),
        ("engine.num_gpus=1", "engine.replicas x tensor_parallel x num_gpus asks for 1 GPUs"),
    ],
)
def test_resources_that_are_not_there_are_refused(change: str, message: str) -> None:
    config = load_config(DEMO, [change, "train.micro_batch=1"])
    with pytest.raises(UserError) as refused:
        check_resources(config, "run", [{"CPU": 4}])
    assert message in str(refused.value)
    check_resources(config, "prepare", [{"CPU": 4}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "engine.tensor_parallel=4",
            "engine.tensor_parallel x num_gpus asks for 4 GPUs of one node, the largest has",
        ),
        ("engine.num_cpus=12", "engine.tensor_parallel x num_cpus asks for 12 CPUs of one node, the largest has 8"),
        ("train.cpus_per_worker=9", "train.cpus_per_worker asks for 9 CPUs of one node, the largest has 8"),
    ],
)
def test_what_no_single_node_holds_is_refused(change: str, message: str) -> None:
    """Eight nodes of one GPU have GPUs enough for an engine of four, and no place for it."""
    config = load_config(DEMO, ["engine.num_gpus=1", change])
    with pytest.raises(UserError) as refused:
        check_resources(config, "run", [{"CPU": 8, "GPU": 1}] * 8)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "nodes", "fits"),
    [
        (["train.gpus_per_worker=1", "train.cpus_per_worker=16"], [{"CPU": 64}, {"CPU": 8, "GPU": 8}], False),
        (["train.cpus_per_worker=3"], [{"CPU": 4}, {"CPU": 2}, {"CPU": 2}], False),
        (["train.cpus_per_worker=3"], [{"CPU": 4}, {"CPU": 3}], True),
        (["engine.num_gpus=1", "engine.tensor_parallel=4", "engine.replicas=3"], [{"CPU": 16, "GPU": 6}] * 2, False),
        (["engine.num_gpus=1", "engine.tensor_parallel=4", "engine.replicas=2"], [{"CPU": 16, "GPU": 6}] * 2, True),
    ],
)
def test_what_nodes_have_left_over_adds_up_to_nothing(
    changes: list[str], nodes: list[dict[str, float]], fits: bool
) -> None:
    config = load_config(DEMO, changes)
    if fits:
        check_resources(config, "run", nodes)
        return
    with pytest.raises(UserError, match="each on one node, and the nodes have room for"):
        check_resources(config, "run", nodes)
