"""Weights that are not those that were trained are refused by name, by `paft export` and `paft evaluate RUN` alike, and
a card never states figures of other weights. Issue 19, point 9."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from paft_ray.cli.main import main
from paft_ray.report.inputs import Measured
from paft_ray.report.model_card import write_cards
from paft_ray.stages.report import origins
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.manifests import trained_models
from paft_ray.storage.outputs import digest, summed
from paft_ray.storage.store import Store
from paft_ray.training.trained_weights import check_trained
from tests.support.tiny_adapter import adapter_files
from tests.unit.cli.test_export import NUMBERS, measure, trained_run

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
FOLDER = "train/paft-s0/adapter"
Change = Callable[[dict[str, bytes]], dict[str, bytes]]


def filled(value: float) -> Change:
    def change(files: dict[str, bytes]) -> dict[str, bytes]:
        tensors = load(files[WEIGHTS])
        return {WEIGHTS: save({name: np.full_like(tensor, value) for name, tensor in tensors.items()})}

    return change


def one_left_out(files: dict[str, bytes]) -> dict[str, bytes]:
    tensors = load(files[WEIGHTS])
    del tensors[min(tensors)]
    return {WEIGHTS: save(tensors)}


def one_bit(files: dict[str, bytes]) -> dict[str, bytes]:
    return {WEIGHTS: files[WEIGHTS][:-5] + bytes([files[WEIGHTS][-5] ^ 1]) + files[WEIGHTS][-4:]}


def alpha(files: dict[str, bytes]) -> dict[str, bytes]:
    config = json.loads(files[CONFIG])
    return {CONFIG: json.dumps({**config, "lora_alpha": 8 * config["lora_alpha"]}).encode()}


CHANGES: dict[str, tuple[Change, str]] = {
    "of sft": (lambda _: {WEIGHTS: adapter_files(NUMBERS["sft"])[WEIGHTS]}, WEIGHTS),
    "not a number": (filled(np.nan), WEIGHTS),
    "zero": (filled(0), WEIGHTS),
    "a tensor left out": (one_left_out, WEIGHTS),
    "a bit": (one_bit, WEIGHTS),
    "alpha": (alpha, CONFIG),
}
"""What was done to the adapter of paft -> (how, the file that is named)."""


def paft(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments)])
    return int(stopped.value.code or 0), capsys.readouterr().err


def write(run: Store, files: dict[str, bytes], folder: str = FOLDER) -> None:
    for name, content in files.items():
        run.write_bytes(f"{folder}/{name}", content)


def commands(run: Store, tmp_path: Path) -> list[tuple[object, ...]]:
    """Every command that uses the weights of another one's run, up to where it would start."""
    (tmp_path / "t.jsonl").write_text(
        "".join(json.dumps({"text": f"Wording {n} of mine: {{text}} Answer:"}) + "\n" for n in range(3))
    )
    (tmp_path / "r.jsonl").write_text(json.dumps({"id": "a", "text": "Good.", "label": "positive"}) + "\n")
    given = ("--templates", tmp_path / "t.jsonl", "--test", tmp_path / "r.jsonl")
    return [
        ("export", run.root, "--arm", "paft", "--out", tmp_path / "out"),
        ("evaluate", run.root, *given, "--out", tmp_path / "out"),
    ]


@pytest.mark.parametrize(("change", "file"), CHANGES.values(), ids=CHANGES)
def test_a_changed_adapter_is_refused_by_name(
    change: Change, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained_run(tmp_path, lora=True, seeds=(0,))
    measure(run)
    write(run, change(adapter_files(NUMBERS["paft"])))
    for command in commands(run, tmp_path):
        code, err = paft(capsys, *command)
        assert (code, err.count("\n")) == (2, 1), err
        assert f"{FOLDER}/{file} is damaged" in err
        assert not (tmp_path / "out").exists()


REHASHED = {
    "not a number": "is not finite",
    "zero": "is zero",
    "a tensor left out": "lora_A of model.layers.0.mlp.up_proj is missing",
}


@pytest.mark.parametrize(("name", "reason"), REHASHED.items(), ids=REHASHED)
def test_one_whose_digests_were_changed_as_well_is_refused_for_what_it_holds(
    name: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained_run(tmp_path, lora=True, seeds=(0,))
    measure(run)
    write(run, CHANGES[name][0](adapter_files(NUMBERS["paft"])))
    manifest = run.read_json("train/manifest.json")
    paft_s0: dict[str, Any] = manifest["models"][1]
    paft_s0["files"] = {file: digest(run.read_bytes(f"{FOLDER}/{file}")) for file in (WEIGHTS, CONFIG)}
    paft_s0["sha256"] = summed(paft_s0["files"])
    run.write_json("train/manifest.json", manifest)
    for command in commands(run, tmp_path):
        code, err = paft(capsys, *command)
        assert (code, err.count("\n")) == (2, 1), err
        assert f"{FOLDER}: " in err
        assert reason in err
        assert not (tmp_path / "out").exists()


def test_a_manifest_that_names_another_arms_weights_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained_run(tmp_path, lora=True, seeds=(0,))
    manifest = run.read_json("train/manifest.json")
    sft, paft_s0 = manifest["models"]
    paft_s0.update({name: sft[name] for name in ("path", "sha256", "files")})
    run.write_json("train/manifest.json", manifest)
    for command in commands(run, tmp_path):
        code, err = paft(capsys, *command)
        assert (code, err.count("\n")) == (2, 1), err
        assert "train/manifest.json does not name what was trained as arm paft, seed 0 (train/sft-s0/adapter)" in err


def test_what_was_trained_passes_with_its_card_and_what_else_lies_there(tmp_path: Path) -> None:
    run = trained_run(tmp_path, lora=True)
    write(run, {"README.md": b"the card", "notes.txt": b"mine"})
    check_trained(run, trained_models(run), base=str(tmp_path / "base"))


def test_a_card_states_no_figures_of_other_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained_run(tmp_path)
    measure(run)
    resolved = ResolvedRun.load(run)
    write_cards(run, resolved.config, origins(resolved), Measured.of(run))
    card = run.read_bytes("report/model_card.md").decode()
    assert "This very model (seed 0): " in card
    assert "value:" in card.split("---")[1]
    again = trained_run(tmp_path / "again", files={"generation_config.json": b"{}"})
    for name in ("evaluate/manifest.json", "evaluate/outcomes.parquet", "evaluate/speed.json"):
        again.write_bytes(name, run.read_bytes(name))
    resolved = ResolvedRun.load(again)
    write_cards(again, resolved.config, origins(resolved), Measured.of(again))
    assert paft(capsys, "export", again.root, "--out", tmp_path / "out")[0] == 0
    for card in (again.read_bytes("report/model_card.md").decode(), (tmp_path / "out/README.md").read_text()):
        assert "has not been evaluated" in card
        assert "This very model" not in card
        assert "value:" not in card.split("---")[1]
