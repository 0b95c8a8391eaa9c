"""Base of all sections: strict models, types, and what follows from the device."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from os.path import expanduser
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from paft_ray.errors import UserError

Precision = Literal["bf16", "fp16", "fp32"]
BUILTIN = "builtin:"
"""Begins the name of a file that ships with the package."""
_CPUINFO = Path("/proc/cpuinfo")
_FAST_BF16 = {"avx512_bf16", "amx_bf16"}


def fast_precision(num_gpus: float) -> Precision:
    """`bf16` for a GPU, or a CPU of this machine that multiplies bf16 natively, else `fp32`: emulated, bf16 was
    measured 30 times slower than fp32."""
    flags = set(_CPUINFO.read_text().split()) if _CPUINFO.is_file() else set()
    return "bf16" if num_gpus or flags & _FAST_BF16 else "fp32"


Positive = Annotated[int, Field(gt=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Place = Annotated[str, AfterValidator(expanduser)]
"""Path or URI of a file; a `~` at its beginning is the home of the user (or of the user named behind it)."""
Options = dict[str, JsonValue]
"""Settings that a library gets as they are: JSON values, since every stage's key holds them."""


class Section(BaseModel):
    """A part of the configuration: immutable, and unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True, allow_inf_nan=False
    )


def each_once(section: str, **lists: Sequence[Any]) -> None:
    """Raises `ValueError` for a list that is empty or holds a value twice."""
    for name, values in lists.items():
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{section}.{name}: at least one is needed, and each once (given {list(values)})")


def builtin(*parts: str) -> Path:
    """Path of a file shipped with the package, e.g. `builtin("tasks", "data", "demo", "train.jsonl")`."""
    return Path(str(resources.files("paft_ray").joinpath(*parts)))


def located(what: str, path: str) -> str:
    """The path of a file as it was given, of `builtin:NAME` that of the file shipped with the package. Raises
    `UserError`, which begins with `what`, for a name that leads out of the package."""
    if not path.startswith(BUILTIN):
        return path
    parts = path.removeprefix(BUILTIN).split("/")
    if ".." in parts:
        raise UserError(
            f"{what} {path}: leads out of the package; give the path of a file of your own without {BUILTIN}"
        )
    return str(builtin(*parts))
