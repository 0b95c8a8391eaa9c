"""The tokens that end an answer of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from paft_ray.models.files import read_object

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MOST = 64


def end_token_ids(path: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Ids of the tokens that end an answer, ascending: the tokenizer's EOS token, behind which answers are trained, and
    those that generation_config.json of the model folder `path` names (a chat model's end of turn, say), else
    config.json. Raises `UserError` for a file that is no JSON object."""
    named: Any = None
    for name in ("generation_config.json", "config.json"):
        if named is None and (file := Path(path) / name).is_file():
            named = read_object(file).get("eos_token_id")
    ids = named if isinstance(named, list) else [named]
    usable = [number for number in ids[:_MOST] if type(number) is int and number >= 0]
    return tuple(sorted({int(tokenizer.eos_token_id), *usable}))  # type: ignore[arg-type]
