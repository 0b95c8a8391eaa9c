"""What adapter_config.json of a trained adapter may say: what stage train writes. Imports neither torch nor PEFT."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paft_ray.errors import UserError, first_fault, one_line

FILE = "adapter_config.json"
_Dimension = Annotated[int, Field(gt=0, lt=2**20)]
_Layer = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]{1,200}$")]


class AdapterConfig(BaseModel):
    """A LoRA adapter as stage train makes it. Whose base it names is not read: the run names it."""

    model_config = ConfigDict(strict=True, extra="allow")

    peft_type: Literal["LORA"]
    task_type: Literal["CAUSAL_LM"]
    r: _Dimension
    lora_alpha: Annotated[float, Field(gt=0, lt=2**31)]
    lora_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    target_modules: list[_Layer] | _Layer
    fan_in_fan_out: bool = False
    """Weights of the base are stored as [inputs, outputs], as GPT-2's are; PEFT decides it by the layer."""
    base_model_name_or_path: str | None = None
    revision: str | None = None
    inference_mode: bool = True
    peft_version: str | None = None


_DEFAULTS = {"bias": "none", "init_lora_weights": True, "megatron_core": "megatron.core", "qalora_group_size": 16}
"""Of PEFT, where not null, false or empty."""


def check_adapter_config(text: bytes, where: str) -> AdapterConfig:
    """What it says. Raises `UserError` for anything that PEFT does beyond plain LoRA: other kinds load a tokenizer, an
    adapter or a module of another place, or replace layers."""
    try:
        said = json.loads(text)
        found = AdapterConfig.model_validate(said)
    except ValidationError as error:
        raise _refused(where, first_fault(error)) from None
    except (ValueError, RecursionError) as error:
        raise _refused(where, f"not JSON, {error}") from None
    if other := sorted(
        name for name, value in (found.model_extra or {}).items() if value and _DEFAULTS.get(name) != value
    ):
        raise _refused(where, f"it sets {one_line(', '.join(other))[:200]}")
    return found


def _refused(where: str, reason: str) -> UserError:
    return UserError(
        f"{where}: not the plain LoRA adapter that stage train writes ({reason}); restore it, or train again"
    )
