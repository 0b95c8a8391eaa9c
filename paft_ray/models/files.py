"""Files of a model folder: which ones are read, and what is refused before a library opens them."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paft_ray.errors import UserError, one_line

Shapes = dict[str, tuple[int, ...]]
"""Weight name -> shape."""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_READ = {".json", ".jinja", ".txt", ".model", ".tiktoken", ".codes", ".tokenizer", ".md"}
_NOT_LOADED = {".md"}
_NOTICES = re.compile(r"licen[cs]e|notice|copying|authors|readme|changelog|use_policy", re.IGNORECASE)
"""Names of texts about a model, for people."""
_LARGEST_TEXT = 2**28
_POINTERS = (
    b"version https://git-lfs.github.com/",
    b"version http://git-media.io/",
    b"version https://hawser.github.com/",
    b"# xet version ",
    b"/annex/objects/",
)
_PACKED = {"U8", "U16", "U32", "U64", "I8", "I16", "I32", "I64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4"}
_STATED = ("quantization_config", "compression_config", "quantization")
_QUANTIZED = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|embeddings)\.weight$")
_FETCH = "fetch or save the model anew"


def check_files(folder: Path) -> None:
    """Raises `UserError` where the folder is no model in Hugging Face format, or a file that is read is incomplete.

    Refused are pipes, devices, links to nothing, empty files, texts over 256 MiB, pointers that `git clone` leaves in
    place of large files, and shards that are missing; whether weight files are complete, `shapes` finds out.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"model {folder}: the folder holds no config.json; give a folder in Hugging Face format")
    for file in _texts(folder):
        _check_file(folder, file)
        if file.stat().st_size > _LARGEST_TEXT:
            raise UserError(
                f"model {folder}: {file.name} has {file.stat().st_size} bytes, allowed are {_LARGEST_TEXT}; {_FETCH}"
            )
    if (folder / "adapter_config.json").exists():
        raise UserError(
            f"model {folder}: holds an adapter (adapter_config.json), which would be loaded with a base of its "
            "own; merge it into its base"
        )
    if "transformers_weights" in read_config(folder):
        raise UserError(f"model {folder}: config.json names other weights (transformers_weights); remove it")
    for name in ("generation_config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            read_object(folder / name)
    weight_files(folder)


def read_config(folder: str | Path) -> dict[str, Any]:
    """config.json of a model folder. Raises `UserError` where it is no JSON object."""
    return read_object(Path(folder) / "config.json")


def most_tokens(folder: str | Path) -> int | None:
    """Tokens that a model reads at most, as its config.json says; None where it does not say so."""
    config = read_config(folder)
    found = [config[name] for name in ("max_position_embeddings", "n_positions") if isinstance(config.get(name), int)]
    return min(found, default=None)


def weight_files(folder: str | Path) -> list[Path]:
    """The weight files that transformers loads: model.safetensors, else those that the index names; copies next to them
    are not.

    Raises `UserError` where there are none, where one that the index names is missing, or where one is incomplete.
    """
    folder = Path(folder)
    if (folder / WEIGHTS).exists() or (folder / WEIGHTS).is_symlink():
        found = [folder / WEIGHTS]
    elif (folder / INDEX).is_file():
        names = shard_names(folder)
        if missing := [name for name in names if not (folder / name).exists()]:
            raise UserError(
                f"model {folder}: {len(missing)} of {len(names)} weight files of {INDEX} are missing "
                f"({', '.join(missing[:3])}); {_FETCH}"
            )
        found = [folder / name for name in names]
    else:
        raise UserError(
            f"model {folder}: the folder holds no *.safetensors that transformers loads ({WEIGHTS}, or {INDEX} "
            "with its files); save the model with save_pretrained"
        )
    for file in found:
        _check_file(folder, file)
    return found


def loader_files(folder: str | Path) -> list[Path]:
    """Every file of a model folder that a loader may read, weights left out; texts for people (README.md, LICENSE.txt)
    are not among them."""
    return [
        file
        for file in _texts(Path(folder))
        if file.suffix not in _NOT_LOADED and not (file.suffix == ".txt" and _NOTICES.match(file.name))
    ]


def shard_names(folder: Path) -> list[str]:
    """Files that the index names. Raises `UserError` where it is none."""
    return sorted(set(_weight_map(folder).values()))


def shapes(path: str) -> Shapes:
    """Shape of every weight that is loaded of a model folder, from the heads of its files.

    Raises `UserError` where a file is incomplete, or does not hold what the index says.
    """
    return {name: shape for name, shape, _ in _tensors(Path(path))}


def quantization(path: str) -> str | None:
    """How the weights of a model folder are quantized, None where they are plain numbers."""
    folder, config = Path(path), read_config(path)
    for section in (config, *config.values()):  # those of models with pictures hold the language model's configuration
        for name in _STATED if isinstance(section, dict) else ():
            if stated := section.get(name):
                return str(stated.get("quant_method") or name) if isinstance(stated, dict) else name
    for name in _QUANTIZED:
        if (folder / name).exists():
            return name
    return next(
        (dtype for name, shape, dtype in _tensors(folder) if dtype in _PACKED and len(shape) > 1 and "weight" in name),
        None,
    )


def embedding_rows(path: str, weights: Shapes) -> int | None:
    """Token ids that the model's input embedding holds, by its weight or else by config.json; None where neither
    says."""
    rows = [shape[0] for name, shape in weights.items() if len(shape) == 2 and _EMBEDDING.search(name)]
    config = read_config(path)
    text = config.get("text_config")
    stated = (text if isinstance(text, dict) else config).get("vocab_size")
    return min(rows) if rows else stated if isinstance(stated, int) else None


def loaded_files(path: str, parent: str) -> str:
    """A model folder for vLLM, which else loads copies of the weights that transformers leaves alone.

    The folder itself where there are none, else a new one in `parent` that holds links.
    """
    folder, names = Path(path), {file.name for file in weight_files(path)}
    copies = {file.name for file in folder.glob("*.safetensors")} - names
    if (folder / INDEX).exists() and WEIGHTS in names:
        copies.add(INDEX)
    if not copies:
        return path
    view = Path(tempfile.mkdtemp(prefix="paft-model-", dir=parent))
    for file in folder.iterdir():
        if file.name not in copies:
            (view / file.name).symlink_to(file)
    return str(view)


def _texts(folder: Path) -> Iterator[Path]:
    """What transformers may open, weights left out; named in order."""
    for each in (folder, folder / "additional_chat_templates"):
        yield from sorted(file for file in each.glob("*") if file.suffix in _READ and not file.is_dir())


def _check_file(folder: Path, file: Path) -> None:
    """Raises `UserError` unless this is a regular file with something in it that is no pointer."""
    if not file.exists():
        raise UserError(f"model {folder}: {file.name} is a link to nothing; {_FETCH}")
    if not file.is_file():
        raise UserError(f"model {folder}: {file.name} is no regular file; {_FETCH}")
    try:
        with file.open("rb") as stream:
            begin = stream.read(100)
    except OSError as error:
        raise UserError(f"model {folder}: {file.name} cannot be read ({error.strerror}); fix it") from None
    if begin.startswith(_POINTERS):
        raise UserError(
            f"model {folder}: {file.name} is a pointer of Git LFS, not the file itself; run `git lfs pull` "
            "there, or fetch the model anew"
        )
    if not begin and file.suffix in (".safetensors", ".json"):
        raise UserError(f"model {folder}: {file.name} is empty; {_FETCH}")


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file of a model folder. Raises `UserError` where it holds something else."""
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(
            f"model {file.parent}: {file.name} is not JSON that can be read ({one_line(error)[:100]}); {_FETCH}"
        ) from None
    if not isinstance(found, dict):
        raise UserError(f"model {file.parent}: {file.name} is a {type(found).__name__}, not a JSON object; {_FETCH}")
    return found


def _weight_map(folder: Path) -> dict[str, str]:
    """Weight name -> file of the index. Raises `UserError` for one that names no files of this folder."""
    found = read_object(folder / INDEX).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise UserError(f"model {folder}: {INDEX} has no weight_map; {_FETCH}")
    if bad := [
        file
        for file in found.values()
        if not isinstance(file, str) or Path(file).name != file or file in ("", "..") or "\0" in file
    ]:
        raise UserError(
            f"model {folder}: {INDEX} names {one_line(bad[0])[:60]!r}, which is no file of this folder; {_FETCH}"
        )
    return found


def _tensors(folder: Path) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """(name, shape, dtype) of every weight that is loaded; the library checks heads and sizes of the files."""
    from safetensors import SafetensorError, safe_open

    held: dict[str, set[str]] = {}
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="numpy") as tensors:
                heads = [(name, tensors.get_slice(name)) for name in tensors.keys()]  # noqa: SIM118 (no mapping)
                found = [(name, tuple(head.get_shape()), str(head.get_dtype())) for name, head in heads]
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(
                f"model {folder}: {file.name} is no safetensors file, or is incomplete "
                f"({one_line(error)[:100]}); {_FETCH}"
            ) from None
        held[file.name] = {name for name, *_ in found}
        yield from found
    if (folder / WEIGHTS).exists():
        return
    if absent := [f"{name} ({file})" for name, file in _weight_map(folder).items() if name not in held[file]]:
        raise UserError(
            f"model {folder}: {len(absent)} weights of {INDEX} are not in their files, first {absent[0]}; {_FETCH}"
        )
