"""Which files of a model folder are read, and what is refused of them before Ray starts."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from paft_ray.errors import UserError
from paft_ray.models import resolve
from paft_ray.models.files import embedding_rows, loaded_files, quantization, shapes, weight_files
from paft_ray.models.identity import model_identity

WEIGHTS = {
    "model.embed_tokens.weight": np.zeros((50, 4), np.float32),
    "model.layers.0.mlp.up_proj.weight": np.zeros((8, 4), np.float32),
}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12881256\n"


def folder(path: Path, **files: Any) -> Path:
    """A model folder: config.json and model.safetensors, with other files by name (`__` for a dot); None leaves one
    out."""
    path.mkdir(exist_ok=True)
    save_file(WEIGHTS, path / "model.safetensors")
    (path / "config.json").write_text('{"model_type": "llama", "vocab_size": 50}')
    for name, content in files.items():
        file = path / name.replace("__", ".").replace("_of_", "-of-")
        if content is None:
            file.unlink()
        else:
            file.write_bytes(
                content
                if isinstance(content, bytes)
                else content.encode()
                if isinstance(content, str)
                else json.dumps(content).encode()
            )
    return path


def sharded(path: Path, **index: Any) -> Path:
    """The same weights in two files and their index."""
    folder(path, model__safetensors=None)
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for shard, (name, tensor) in zip(shards, WEIGHTS.items(), strict=True):
        save_file({name: tensor}, path / shard)
    weight_map = dict(zip(WEIGHTS, shards, strict=True))
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map, **index}))
    return path


def refusal(path: Path) -> str:
    """The line with which a folder is refused."""
    with pytest.raises(UserError) as error:
        shapes(resolve.resolve_model(str(path), None))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer.model", "special_tokens_map.json"]
)
@pytest.mark.parametrize(
    "pointer", [POINTER, POINTER.replace("git-lfs.github", "hawser.github"), "/annex/objects/SHA256E-s3--4d7a\n"]
)
def test_a_pointer_in_place_of_a_file_is_refused_with_the_command_that_fetches_it(
    name: str, pointer: str, tmp_path: Path
) -> None:
    (folder(tmp_path) / name).write_text(pointer)
    assert f"{name} is a pointer of Git LFS, not the file itself; run `git lfs pull` there" in refusal(tmp_path)


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    sharded(tmp_path)
    assert len(shapes(str(tmp_path))) == 2
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert (
        "1 of 2 weight files of model.safetensors.index.json are missing (model-00002-of-00002.safetensors)"
        in refusal(tmp_path)
    )
    (tmp_path / "model-00002-of-00002.safetensors").write_text(POINTER)
    assert "model-00002-of-00002.safetensors is a pointer of Git LFS" in refusal(tmp_path)
    save_file({"other": WEIGHTS["model.embed_tokens.weight"]}, tmp_path / "model-00002-of-00002.safetensors")
    assert "1 weights of model.safetensors.index.json are not in their files" in refusal(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_weights_that_end_early_are_refused(share: float, tmp_path: Path) -> None:
    file = folder(tmp_path) / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert "model.safetensors is" in refusal(tmp_path)


@pytest.mark.parametrize(
    "head",
    [
        b"[]",
        b"null",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b"[" * 100_000,
        b"\xff{",
    ],
)
def test_a_head_that_is_none_is_refused(head: bytes, tmp_path: Path) -> None:
    (folder(tmp_path) / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(64))
    assert "model.safetensors is no safetensors file, or is incomplete" in refusal(tmp_path)


@pytest.mark.parametrize(
    "index", [None, [], {}, *({"a": name} for name in (3, None, "", "..", "x\0", "../model.safetensors", "/dev/zero"))]
)
def test_an_index_that_names_no_files_of_the_folder_is_refused(index: Any, tmp_path: Path) -> None:
    assert "model.safetensors.index.json" in refusal(sharded(tmp_path, weight_map=index))


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["[]", "null", "3", "{", "[" * 100_000, "\x00", "9" * 9999])
def test_json_that_is_no_object_is_refused(name: str, content: str, tmp_path: Path) -> None:
    (folder(tmp_path) / name).write_text(content)
    assert name in refusal(tmp_path)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "vocab.txt"]
)
def test_a_pipe_or_a_link_to_nothing_is_refused_at_once(name: str, tmp_path: Path) -> None:
    file = folder(tmp_path) / name
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    assert "no regular file" in refusal(tmp_path) or name == "config.json"
    file.unlink()
    file.symlink_to("/nowhere")
    assert "link to nothing" in refusal(tmp_path) or name == "config.json"
    file.unlink()
    file.symlink_to("/dev/zero")
    assert "no regular file" in refusal(tmp_path) or name == "config.json"


def test_a_text_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with (folder(tmp_path) / "tokenizer.json").open("wb") as file:
        file.truncate(2**28 + 1)
    assert "tokenizer.json has 268435457 bytes, allowed are 268435456" in refusal(tmp_path)


def test_a_folder_that_leads_to_other_weights_is_refused(tmp_path: Path) -> None:
    assert "holds an adapter" in refusal(
        folder(tmp_path / "a", adapter_config__json={"base_model_name_or_path": "/other"})
    )
    assert "transformers_weights" in refusal(
        folder(tmp_path / "b", config__json={"transformers_weights": "other.safetensors"})
    )


def test_copies_of_the_weights_are_neither_counted_nor_hashed_nor_given_to_the_engine(tmp_path: Path) -> None:
    plain = folder(tmp_path / "plain")
    expected = shapes(str(plain))
    assert loaded_files(str(plain), str(tmp_path)) == str(plain)
    identity = model_identity("m", None, str(plain))
    for make in (folder, sharded):
        path = make(tmp_path / make.__name__)
        for copy in (
            "consolidated.safetensors",
            "model.fp16.safetensors",
            "tf_model.h5",
            "flax_model.msgpack",
            "adapter_model.safetensors",
        ):
            save_file({"layers.0.w": np.zeros((9, 9), np.float32)}, path / copy)
        (path / "original").mkdir()
        save_file(WEIGHTS, path / "original" / "consolidated.00.safetensors")
        assert shapes(resolve.resolve_model(str(path), None)) == expected
        view = Path(loaded_files(str(path), str(tmp_path)))
        assert {file.name for file in view.glob("*.safetensors")} == {file.name for file in weight_files(path)}
        assert shapes(str(view)) == expected
    assert model_identity("m", None, str(tmp_path / "folder")) == identity


def test_one_file_comes_before_an_index_as_in_transformers(tmp_path: Path) -> None:
    path = sharded(tmp_path / "m")
    save_file(WEIGHTS, path / "model.safetensors")
    assert [file.name for file in weight_files(path)] == ["model.safetensors"]
    view = Path(loaded_files(str(path), str(tmp_path)))
    assert sorted(file.name for file in view.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("single", [True, False])
def test_of_a_hub_repository_one_copy_is_fetched(single: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    hub = folder(tmp_path / "hub") if single else sharded(tmp_path / "hub")
    for copy in (
        "consolidated.safetensors",
        "model.h5",
        "flax.msgpack",
        "a.ckpt",
        "m.tflite",
        "rust_model.ot",
        "pytorch_model.bin",
        "tokenizer.json",
        "chat_template.jinja",
    ):
        (hub / copy).write_bytes(b"{}")
    for inner in ("onnx", "original", "openvino", "coreml"):
        (hub / inner).mkdir()
        (hub / inner / "model.safetensors").write_bytes(b"x")
        (hub / inner / "config.json").write_bytes(b"{}")
    target = tmp_path / "cache"
    target.mkdir()

    def snapshot_download(
        repo: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]
    ) -> str:
        names = [str(file.relative_to(hub)) for file in hub.rglob("*") if file.is_file()]
        for name in filter_repo_objects(names, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (target / name).parent.mkdir(exist_ok=True)
            (target / name).write_bytes((hub / name).read_bytes())
        return str(target)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert resolve.resolve_model("owner/name", "abc") == str(target)
    weights = (
        {"model.safetensors"}
        if single
        else {f"model-0000{i}-of-00002.safetensors" for i in (1, 2)} | {"model.safetensors.index.json"}
    )
    assert {file.name for file in target.iterdir()} == {
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        *weights,
    }


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bitsandbytes"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8"),
        ({"quantization_config": {"load_in_8bit": True}}, "quantization_config"),
        ({"text_config": {"quantization_config": {"quant_method": "awq"}}}, "awq"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "quantization"),
        ({"language_config": {"quantization_config": {"quant_method": "awq"}}}, "awq"),
        ({"quantization_config": None}, None),
        ({}, None),
    ],
)
def test_a_quantized_base_is_seen_by_its_configuration(
    config: dict[str, Any], kind: str | None, tmp_path: Path
) -> None:
    assert quantization(str(folder(tmp_path, config__json=config))) == kind


def test_a_quantized_base_is_seen_by_its_files_and_weights(tmp_path: Path) -> None:
    assert quantization(str(folder(tmp_path / "a", quantize_config__json={"bits": 4}))) == "quantize_config.json"
    packed = folder(tmp_path / "b")
    save_file(
        {**WEIGHTS, "model.layers.0.mlp.up_proj.weight": np.zeros((8, 1), np.uint8)}, packed / "model.safetensors"
    )
    assert quantization(str(packed)) == "U8"
    of_mlx = folder(tmp_path / "d")
    save_file(
        {**WEIGHTS, "model.layers.0.mlp.up_proj.weight": np.zeros((8, 1), np.uint32)}, of_mlx / "model.safetensors"
    )
    assert quantization(str(of_mlx)) == "U32"
    plain = folder(tmp_path / "c")
    save_file(
        {**WEIGHTS, "attn.bias": np.zeros((1, 1, 4, 4), np.uint8), "position_ids": np.zeros((1, 9), np.int64)},
        plain / "model.safetensors",
    )
    assert quantization(str(plain)) is None


def test_rows_of_the_embedding_come_from_the_weight_then_from_the_configuration(tmp_path: Path) -> None:
    path = str(folder(tmp_path, config__json={"vocab_size": 60}))
    assert embedding_rows(path, shapes(path)) == 50
    save_file({"other.weight": np.zeros((3, 3), np.float32)}, tmp_path / "model.safetensors")
    assert embedding_rows(path, shapes(path)) == 60
    (tmp_path / "config.json").write_text('{"text_config": {"vocab_size": 70}}')
    assert embedding_rows(path, shapes(path)) == 70
