"""What is read of a trained model before it is merged, loaded or exported. Imports neither torch nor PEFT.

Digests show that files are those that were trained; this shows that they are weights, since a run may be someone
else's: complete, finite, not zero, of the shapes that adapter and base say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from safetensors import SafetensorError, safe_open

from paft_ray.errors import UserError, one_line
from paft_ray.models.files import check_files as check_model_files
from paft_ray.models.files import read_config, shapes, weight_files
from paft_ray.storage.manifests import TrainedModel
from paft_ray.storage.outputs import check_files, fetch_verified
from paft_ray.storage.store import Store
from paft_ray.training import adapter_config

ADAPTER_FILE = "adapter_model.safetensors"
_EXPONENTS = {
    "F64": ("<u8", 0x7FF0000000000000),
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
"""Dtype of safetensors -> (unsigned integers of its size, bits of the exponent: all set where not finite)."""
_TURNED = ("gpt2", "openai-gpt")
"""Kinds of models whose layers hold their weights as [inputs, outputs]."""
_CHUNK = 2**22  # numbers that are looked at together
_PART = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    dtype: str
    shape: tuple[int, ...]
    begin: int
    """First byte in the file."""
    num_bytes: int


def fetch_trained(run: Store, model: TrainedModel, local: Path, *, base: str) -> None:
    """Copies the files of a trained model to a local folder. Everything that uses weights of a run comes through here.

    `base`: folder of its base model. Raises `UserError` where a file is missing or not what was trained, and as
    `check_weights_folder`.
    """
    fetch_verified(run, model.path, model.files, local)
    check_weights_folder(local, f"run {run.root}: {model.path}", base=base, is_adapter=model.is_adapter)


def adapter_config_of(run: Store, model: TrainedModel) -> adapter_config.AdapterConfig:
    """What the configuration of a trained adapter says. Raises `UserError` as `check_adapter_config`."""
    path = f"{model.path}/{adapter_config.FILE}"
    return adapter_config.check_adapter_config(run.read_bytes(path), f"run {run.root}: {path}")


def check_trained(run: Store, models: Iterable[TrainedModel], *, base: str) -> None:
    """Raises `UserError` as `fetch_trained`, and for links among the files, for the first damaged model.

    What the weights of a run in object storage hold is read when they are fetched.
    """
    for model in models:
        run.check_plain(model.path)
        check_files(run, model.path, {f"{model.path}/{name}": wanted for name, wanted in model.files.items()})
        if run.is_local:
            folder = Path(run.path(model.path))
            check_weights_folder(folder, f"run {run.root}: {model.path}", base=base, is_adapter=model.is_adapter)


def check_weights_folder(folder: Path, where: str, *, base: str, is_adapter: bool) -> None:
    """Raises `UserError` unless a local folder holds the complete adapter of the model folder `base`, or complete
    weights with configuration and tokenizer. `where`: names the folder in the message."""
    if is_adapter:
        _check_adapter(folder, where, base)
        return
    try:
        check_model_files(folder)
        shapes(str(folder))
        files = weight_files(folder)
    except UserError as error:
        _refuse(where, f"it is no complete model: {one_line(error)[:300]}")
    if not (folder / "tokenizer_config.json").is_file():
        _refuse(where, "tokenizer_config.json is missing")
    zero = [_is_zero(file, tensor, name, where) for file in files for name, tensor in _tensors(file, where).items()]
    if all(zero):
        _refuse(where, "all of its weights are zero")


def _check_adapter(folder: Path, where: str, base: str) -> None:
    of_base, stated = shapes(base), read_config(base)
    num_layers, is_turned = _num_layers(stated), stated.get("model_type") in _TURNED
    path = folder / adapter_config.FILE
    config = adapter_config.check_adapter_config(path.read_bytes() if path.is_file() else b"", where)
    file = folder / ADAPTER_FILE
    tensors = _tensors(file, where)
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, tensor in tensors.items():
        if not (found := _PART.fullmatch(name)) or len(tensor.shape) != 2:
            _refuse(where, f"{_shown(name)} is no tensor of a LoRA adapter")
        modules.setdefault(found[1], {})[found[2]] = tensor.shape
    targets = [config.target_modules] if isinstance(config.target_modules, str) else config.target_modules
    expected = {
        name.removesuffix(".weight"): shape
        for name, shape in of_base.items()
        if len(shape) == 2 and name.endswith(".weight") and _layer(name) < (num_layers or np.inf)
    }
    if missing := _missing(modules, targets, expected):
        _refuse(where, f"{_shown(missing)} is missing")
    if other := next((module for module in modules if not any(_is_target(module, name) for name in targets)), None):
        _refuse(where, f"{_shown(other)} is none of the target_modules of {adapter_config.FILE}")
    for module, parts in modules.items():
        (rank, inputs), (outputs, rank_out) = parts["A"], parts["B"]
        own = {(outputs, inputs), *([(inputs, outputs)] if is_turned else [])}  # heads are stored as everywhere
        if (rank, rank_out) != (config.r, config.r) or expected.get(module, (outputs, inputs)) not in own:
            _refuse(where, f"{_shown(module)} has another shape than its base, or another rank than r={config.r}")
    for name, tensor in tensors.items():
        if _is_zero(file, tensor, name, where):
            _refuse(where, f"{_shown(name)} is zero")


def _missing(
    modules: Mapping[str, Mapping[str, object]], targets: list[str], expected: Mapping[str, object]
) -> str | None:
    """Name of the first part that is not there: A or B of a module, every module of a target, or a module that stands
    in the base at the place of others (`layers.7.q_proj` of `layers.*.q_proj`)."""
    for module, parts in modules.items():
        if absent := {"A", "B"} - set(parts):
            return f"lora_{min(absent)} of {module}"
    for target in targets:
        if not any(_is_target(module, target) for module in modules):
            return f"every module {target}"
    places = {_place(module) for module in modules}
    return next((module for module in expected if _place(module) in places and module not in modules), None)


def _is_target(module: str, target: str) -> bool:
    return module == target or module.endswith(f".{target}")


def _place(module: str) -> str:
    return re.sub(r"\d+", "*", module)


def _layer(name: str) -> int:
    """Number of the layer that a weight is of; -1 outside of layers."""
    found = re.search(r"\.(\d+)\.", name)
    return int(found[1]) if found else -1


def _num_layers(config: Mapping[str, object]) -> int | None:
    """Layers that config.json states: folders of some models hold one more, which is not loaded."""
    text = config.get("text_config")
    stated = (text if isinstance(text, dict) else config).get("num_hidden_layers")
    return stated if isinstance(stated, int) else None


def _tensors(file: Path, where: str) -> dict[str, _Tensor]:
    """Name -> tensor of a safetensors file; the library checks that heads and sizes agree."""
    try:
        with safe_open(file, framework="numpy") as opened:
            names = list(opened.keys())
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            head = json.loads(stream.read(size))
    except (SafetensorError, OSError, ValueError) as error:
        _refuse(where, f"{file.name} is no complete safetensors file: {one_line(error)[:200]}")
    if not names:
        _refuse(where, f"{file.name} holds no tensors")
    found = {}
    for name in names:
        begin, end = head[name]["data_offsets"]
        found[name] = _Tensor(
            dtype=head[name]["dtype"],
            shape=tuple(head[name]["shape"]),
            begin=8 + size + begin,
            num_bytes=end - begin,
        )
    return found


def _is_zero(file: Path, tensor: _Tensor, name: str, where: str) -> bool:
    """Whether all of its numbers are zero. Raises `UserError` for an empty tensor, and for numbers that are not
    finite."""
    if tensor.dtype not in _EXPONENTS or not tensor.num_bytes:
        _refuse(where, f"{_shown(name)} is empty, or of dtype {tensor.dtype}; allowed: {', '.join(_EXPONENTS)}")
    kind, exponent = _EXPONENTS[tensor.dtype]
    zero = True
    for bits in _chunks(file, tensor, np.dtype(kind)):
        if ((bits & bits.dtype.type(exponent)) == exponent).any():
            _refuse(where, f"{_shown(name)} is not finite")
        zero = zero and not (bits << bits.dtype.type(1)).any()  # without the sign
    return zero


def _chunks(file: Path, tensor: _Tensor, kind: np.dtype[np.unsignedinteger]) -> Iterator[np.ndarray]:
    with file.open("rb") as stream:
        stream.seek(tensor.begin)
        left = tensor.num_bytes // kind.itemsize
        while left and (bits := np.fromfile(stream, kind, min(left, _CHUNK))).size:
            left -= bits.size
            yield bits


def _shown(name: str) -> str:
    return one_line(name)[:200]


def _refuse(where: str, reason: str) -> NoReturn:
    raise UserError(f"{where}: {reason}; it is not what stage train wrote: restore it, or train again")
