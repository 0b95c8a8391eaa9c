"""The identity of a model changes with every file that decides its answers, and with no other."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from paft_ray.errors import UserError
from paft_ray.models.identity import model_identity

DECIDING = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "qwen.tiktoken",
    "bpe.codes",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
    "model.safetensors.index.json",
    "quantize_config.json",
]
OTHER = [
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    "USE_POLICY.md",
    "NOTICE.txt",
    "logo.png",
    ".gitattributes",
    "pytorch_model.bin",
    "consolidated.safetensors",
    "model.gguf",
    "modeling.py",
    "onnx/model.onnx",
    "original/params.json",
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAFT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder of 40 tensors with every kind of file."""
    made = tmp_path / "model"
    for name in [*DECIDING, *OTHER]:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text("{}")
    save_file({f"layer.{i}.weight": np.full((256, 64), i, np.float32) for i in range(40)}, made / "model.safetensors")
    return made


def identity(folder: Path) -> dict[str, object]:
    return dict(model_identity("m", "r", str(folder))["files"])


@pytest.mark.parametrize("name", DECIDING)
def test_a_file_that_a_loader_reads_is_part_of_the_identity(folder: Path, name: str) -> None:
    before = identity(folder)
    (folder / name).write_text("{} ")
    changed = identity(folder)
    assert [file for file in changed if changed[file] != before[file]] == [name]
    (folder / name).unlink()
    if name != "model.safetensors.index.json":  # weights are in one file
        assert name not in identity(folder)


@pytest.mark.parametrize("name", OTHER)
def test_a_file_that_no_loader_reads_is_not(folder: Path, name: str) -> None:
    before = identity(folder)
    (folder / name).write_text("other")
    assert identity(folder) == before


@pytest.mark.parametrize("part", range(40))
def test_every_tensor_is_part_of_the_identity(folder: Path, part: int) -> None:
    before = identity(folder)
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.seek(-(part * 256 * 64 * 4 + 12_345), 2)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
    assert identity(folder) != before


def test_id_and_revision_are_part_of_it(folder: Path) -> None:
    names = [("m", None), ("m", "r"), ("n", None)]
    assert len({str(model_identity(*name, str(folder))) for name in names}) == len(names)


def test_shards_are_read_as_the_index_names_them(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        '{"weight_map": {"layer.0.weight": "model-00001-of-00001.safetensors"}}'
    )
    before = identity(folder)
    assert "model-00001-of-00001.safetensors" in before
    (folder / "model-00001-of-00001.safetensors").write_bytes(b"other")
    assert identity(folder) != before


def test_weights_that_cannot_be_read_end_in_one_line(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to("/nowhere")
    with pytest.raises(UserError, match=r"model .*tokenizer\.json") as error:
        identity(folder)
    assert "\n" not in str(error.value)
