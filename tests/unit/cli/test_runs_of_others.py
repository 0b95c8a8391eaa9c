"""A run of someone else's: numbers in it are bounded before they size anything, paths stay inside, and results go only
where nothing else lies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from paft_ray.cli import evaluate_run as module
from paft_ray.cli import export
from paft_ray.cli.main import main
from paft_ray.config import parse_config
from paft_ray.errors import StorageError, UserError
from paft_ray.metrics import arms_from_table
from paft_ray.report.inputs import Measured
from paft_ray.report.model_card import evaluated_engine
from paft_ray.storage.artifacts import training_result
from paft_ray.storage.store import Store
from paft_ray.training.adapter_config import check_adapter_config
from tests.support.made_stage import finish_stage
from tests.unit.cli.test_audit_run import log, made
from tests.unit.cli.test_export import measure, trained_run


def paft(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


BAD_NUMBERS: list[tuple[str, Any]] = [
    ("num_steps", 10**12),
    ("num_steps", 2**31 - 1),
    ("num_steps", -5),
    ("num_steps", "7"),
    ("num_steps", True),
    ("num_epochs", 1e300),
    ("num_epochs", 900_000.0),
    ("num_epochs", float("nan")),
    ("num_epochs", float("inf")),
    ("num_epochs", -1.0),
    ("num_epochs", [3]),
    ("global_batch", 0),
    ("global_batch", -4),
    ("global_batch", 10**15),
    ("global_batch", 4.5),
    ("global_batch", "4"),
    ("sampling", {"type": "every_k", "k": 0}),
    ("sampling", {"type": "every_k", "k": "3"}),
    ("sampling", {"type": "evil"}),
    ("seed", -1),
    ("seed", "3"),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "value"), BAD_NUMBERS)
def test_a_number_that_a_manifest_makes_up_sizes_nothing(
    name: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, of = made(tmp_path / "r")
    log(run, of)
    manifest = run.read_json("train/paft-s3/manifest.json")
    settings = manifest["key"] if name == "seed" else manifest["key"]["train"]
    settings[name] = value
    if name == "num_steps":
        settings["num_epochs"] = None
    run.write_json("train/paft-s3/manifest.json", manifest)
    begin = time.process_time()
    code, _, err = paft(capsys, "audit", run.root)
    assert (code, err.count("\n")) == (2, 1), err
    assert "train/paft-s3/manifest.json" in err
    assert "train again" in err
    assert time.process_time() - begin < 5


def test_an_audit_without_its_rows_or_templates_says_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("prepare/train.parquet", "synthesize/prompt_set.parquet"):
        run, of = made(tmp_path / path.replace("/", "-"))
        log(run, of)
        run.delete(path)
        code, _, err = paft(capsys, "audit", run.root)
        assert (code, f"{path} is missing" in err) == (2, True)


def test_outcomes_of_few_rows_do_not_ask_for_their_cube() -> None:
    n = 2_000
    ids = [str(i) for i in range(n)]
    columns = {
        "arm": ["paft"] * n,
        "seed": np.arange(n),
        "template_id": ids,
        "example_id": ids,
        "predicted": ids,
        "parsed": [True] * n,
        "correct": [1] * n,
    }
    with pytest.raises(UserError, match="2000 x 2000 x 2000 seeds, templates and examples, at most"):
        arms_from_table(pa.table(columns))


def test_bootstrap_draws_have_a_limit() -> None:
    with pytest.raises(UserError, match=r"report\.num_bootstrap: Input should be less than or equal to 1000000"):
        parse_config({"name": "r", "task": "demo", "report": {"num_bootstrap": 2_000_000_000}}, "RUN/config.json")


@pytest.mark.parametrize(
    "engine",
    [
        {"engine_kwargs": {"trust_remote_code": True}},
        {"engine_kwargs": {"worker_cls": "evil.Worker"}},
        {"engine_kwargs": {"max_num_seqs": "8; rm -rf /"}},
        {"precision": "bf16 --trust-remote-code"},
        {"tensor_parallel": 10**12},
        {"unknown": 1},
        ["engine_kwargs"],
        "engine",
    ],
)
def test_what_the_manifest_of_an_evaluation_says_of_the_engine_is_held_to_the_same_list(
    engine: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained_run(tmp_path)
    measure(run)
    finish_stage(run, "evaluate", run.read_json("evaluate/manifest.json")["outputs"], key={"engine": engine})
    code, out, err = paft(capsys, "export", run.root, "--out", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "evaluate/manifest.json" in err
    assert not (tmp_path / "out").exists()


def test_a_good_manifest_of_an_evaluation_decides_the_engine(tmp_path: Path) -> None:
    run = trained_run(tmp_path)
    measure(run)
    engine = {"precision": "fp16", "engine_kwargs": {"max_num_seqs": 8}}
    finish_stage(run, "evaluate", run.read_json("evaluate/manifest.json")["outputs"], key={"engine": engine})
    engine = evaluated_engine(parse_config(run.read_json("config.json"), "test"), Measured.of(run))
    assert (engine.precision, engine.engine_kwargs) == ("fp16", {"max_num_seqs": 8})


def link_out(folder: Path) -> None:
    (folder / "notes.txt").symlink_to("/etc/hostname")


def link_a_folder(folder: Path) -> None:
    (folder / "more").symlink_to("/etc")


def link_itself(folder: Path) -> None:
    folder.rename(folder.parent.parent.parent.parent / "elsewhere")
    folder.symlink_to(folder.parent.parent.parent.parent / "elsewhere")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "notes.txt")


@pytest.mark.parametrize("change", [link_out, link_a_folder, link_itself, pipe])
def test_nothing_from_outside_the_run_is_exported(
    change: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained_run(tmp_path)
    change(Path(run.path("train/paft-s0/weights")))
    code, _, err = paft(capsys, "export", run.root, "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "is a link or a special file" in err
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".export-*"))


def test_what_is_no_part_of_a_model_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = ("modeling_evil.py", "pytorch_model.bin", "training_args.bin", "model.pt", "install.sh")
    files = dict.fromkeys(("chat_template.jinja", *evil), b"{}")
    run = trained_run(tmp_path, files=files)
    run.write_bytes("train/paft-s0/weights/added.json", b"{}")
    assert paft(capsys, "export", run.root, "--out", tmp_path / "out")[0] == 0
    exported = {path.name for path in (tmp_path / "out").iterdir()}
    whole = {"model.safetensors", "config.json", "tokenizer_config.json", "chat_template.jinja"}
    assert exported == {*whole, "README.md", "templates.jsonl"}


@pytest.mark.parametrize("name", ["../../../elsewhere", "a/b", "", ["f"], 3, "F" * 99, "f\0"])
def test_a_fingerprint_leads_nowhere(name: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, of = made(tmp_path / "r")
    log(run, of)
    outputs = training_result("train/paft-s3").write(run, {"fingerprint": name})
    finish_stage(run, "train/paft-s3", outputs, key={})
    code, _, err = paft(capsys, "audit", run.root)
    assert (code, err.count("\n"), "train/paft-s3/result.json is not what stage train writes" in err) == (2, 1, True)


def test_the_configuration_that_peft_writes_is_plain(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=16)
    )
    for targets in ("all-linear", ["q_proj", "v_proj"]):
        adapted = get_peft_model(
            model, LoraConfig(r=2, lora_alpha=4, lora_dropout=0.1, target_modules=targets, task_type="CAUSAL_LM")
        )
        adapted.save_pretrained(str(tmp_path), state_dict={"a": torch.zeros(1)})
        check_adapter_config((tmp_path / "adapter_config.json").read_bytes(), "it")
        model = adapted.unload()


def test_results_go_only_into_new_empty_or_own_folders(tmp_path: Path) -> None:
    run, mine = Store(str(tmp_path / "run")), tmp_path / "mine"
    run.write_json("run.json", {})
    mine.mkdir()
    for out in ("new", "mine", "run/other"):
        module._check_target(str(tmp_path / out), run)
    (mine / "results.json").write_text("mine")
    other = Store(str(tmp_path / "other"))
    other.write_json("evaluate/manifest.json", {})
    for out in ("mine", "mine/results.json", "other", "other/evaluate", "run", "run/report", "run/logs"):
        with pytest.raises(UserError, match=r"--out .*(is not empty|own results)"):
            module._check_target(str(tmp_path / out), run)
    with pytest.raises(UserError, match="names no folder"):
        module._check_target(" ", run)
    assert (mine / "results.json").read_text() == "mine"
    (mine / "results.json").unlink()
    Store(str(mine)).write_json("evaluated_run.json", {"run": run.root})
    (mine / "results.json").write_text("of this command")
    module._check_target(str(mine), run)


def test_the_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run = Store(str(tmp_path / "run"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(UserError, match="is not empty"):
        module._check_target("~/full", run)
    with pytest.raises(UserError, match="is not empty"):
        export._empty_folder("~/full")
    assert export._empty_folder("~/new") == tmp_path / "new"
    for out in ("", "  ", "a\0b"):
        with pytest.raises(UserError, match=r"--out"):
            export._empty_folder(out)


def test_a_full_disk_is_told_of_the_folder_of_the_export_not_of_the_run(tmp_path: Path) -> None:
    full = OSError(28, "No space left on device")
    for error in (full, StorageError("storage RUN: train/paft-s0/adapter cannot be read")):
        if error is not full:
            error.__cause__ = full
        with (
            pytest.raises(UserError, match=r"--out mine: cannot be written \(No space left on device\)"),
            export._into(tmp_path / "mine", "mine"),
        ):
            raise error
    with pytest.raises(StorageError, match="cannot be read"), export._into(tmp_path / "mine", "mine"):
        raise StorageError("storage RUN: train/paft-s0/adapter cannot be read") from OSError(5, "Input/output error")
    assert not list(tmp_path.iterdir())


def test_a_stopped_export_leaves_nothing(tmp_path: Path) -> None:
    run = trained_run(tmp_path)
    code = (
        "import sys, time; from paft_ray.cli import export, main\n"
        "export._weights = lambda *_, **__: (print('working', flush=True), time.sleep(60))\n"
        f"main.main(['export', {run.root!r}, '--out', {str(tmp_path / 'to' / 'out')!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    assert len(list((tmp_path / "to").iterdir())) == 1
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "start the same command again" in err
    assert not list((tmp_path / "to").iterdir())


def test_a_manifest_that_is_no_object_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained_run(tmp_path)
    measure(run)
    for said in ([], "x", 3):
        run.write_bytes("evaluate/manifest.json", json.dumps(said).encode())
        code, _, err = paft(capsys, "export", run.root, "--out", tmp_path / "out")
        assert (code, err.count("\n"), "evaluate/manifest.json is no manifest of stage evaluate" in err) == (2, 1, True)


@pytest.mark.parametrize("file", ["config.json", "model_folders.json", "train/manifest.json", "evaluate/manifest.json"])
def test_a_file_that_only_claims_its_size_is_not_read_whole(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained_run(tmp_path)
    measure(run)
    with Path(run.path(file)).open("wb") as stream:
        stream.truncate(2**36)
    code, _, err = paft(capsys, "export", run.root, "--out", tmp_path / "out")
    assert (code, err.count("\n"), f"{file}: more than 67108864 bytes" in err) == (2, 1, True)
