"""What a model's chat template writes around the contents, for cache keys: it reads more than its own text (special
tokens, variables, the clock, which stands still here)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from paft_ray.errors import UserError
from paft_ray.models.reference import ModelFiles
from paft_ray.models.resolve import load_tokenizer
from paft_ray.prompts.tokens import PromptTokens

_LONGEST = 4096


def chat_frame(model: ModelFiles, variables: Mapping[str, Any]) -> dict[str, str] | None:
    """Roles -> what the chat template writes before, between and after their contents (`{}`), a SHA-256 where that is
    long; None without a chat template.

    Roles that the template refuses are left out. Raises `UserError` where there is no tokenizer that can be read.
    """
    identity, given = json.dumps(dict(model.identity), sort_keys=True), json.dumps(dict(variables), sort_keys=True)
    return _rendered(model.path, identity, given)


@lru_cache(maxsize=8)
def _rendered(path: str, identity: str, variables: str) -> dict[str, str] | None:
    """As `chat_frame`; `identity`: that of the model's files, without which an answer from memory could be that of
    other files in the same folder."""
    tokenizer = load_tokenizer(path)
    if not tokenizer.chat_template:
        return None
    tokens, found = PromptTokens(tokenizer), {}
    for roles in (["user"], ["system", "user"]):
        try:
            text = "{}".join(tokens.frame(roles, json.loads(variables))[0])
        except UserError:
            continue
        found[" ".join(roles)] = text if len(text) <= _LONGEST else hashlib.sha256(text.encode()).hexdigest()
    return found
