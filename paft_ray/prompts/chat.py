"""Chat templates: outside code, rendered in a child process with limits of time and memory, on the same day every
day."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import markupsafe

from paft_ray.errors import UserError, one_line
from paft_ray.prompts import chat_child

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Scalar = bool | int | float | str
DATE = "26 Jul 2024"
"""Llama 3.2 puts a date into every prompt, by default today's: its own fixed default keeps prompts the same from day to
day."""
_LONGEST_S = 60  # of the wall clock: the limit that counts is the one on computing time
_LIMITS = (
    f"allowed: {chat_child.CPU_S} s of computing, {chat_child.MEMORY_BYTES >> 20} MiB, {chat_child.LONGEST_TEXT} "
    "characters"
)
_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What an interpreter may need to start; no secret goes to a template."""

_WORD = r"think|thought|reason|analys|reflect|scratch_?pad|rationale|monologue|deliberat|ponder|inner_|chain_of|cot\b"
_NAME = r"[^\s<>\[\]◁▷＜＞⟨⟩]{0,24}"
_TAG = rf"[<\[◁＜⟨] ?(?P<tag>/? ?{_NAME}?(?:{_WORD}){_NAME}(?: ?/)?)(?: [\w-]+=[^<>\n]{{0,80}}| )?[>\]▷＞⟩]"
_MARKER = re.compile(rf"{_TAG}|<\|?(?:channel|im_start|start_header_id)\|?>\s*(?P<channel>\w*)", re.IGNORECASE)
_CLOSES = re.compile(r"^\W*(?:/|end|close|stop|no|skip)|suffix|off\b|(?:[_-](?:end|close|stop)|/)\W*$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """What a chat template wrote."""

    text: str
    reads: frozenset[str]
    """Names that the template looks up, its own variables left out."""


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, str]],
    variables: Mapping[str, Scalar] | None = None,
) -> Rendered:
    """The messages in the tokenizer's chat template, with its generation prompt; `variables` are for the template.

    The first call for a template and its input starts two processes (0.2 s each), which must agree; later ones of this
    process are answered from memory. Raises `UserError` where the template refuses the messages, fails, or takes more
    than it may.
    """
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        raise UserError(
            f"the tokenizer's chat template cannot be chosen ({one_line(error)}); set model.chat=false"
        ) from None
    names = {
        **tokenizer.special_tokens_map,
        "tools": None,
        "documents": None,
        **(variables or {}),
        "messages": messages,
        "add_generation_prompt": True,
        "date_string": DATE,
    }
    return _rendered(template, json.dumps(names, default=str), " and ".join(message["role"] for message in messages))


def open_thinking(generation_prompt: str) -> str | None:
    """The tag of a thinking block that a generation prompt opens and does not close, None where there is none."""
    opened = None
    for marker in _MARKER.finditer(generation_prompt):
        tag, channel = marker["tag"], marker["channel"]
        opens = re.search(_WORD, channel, re.IGNORECASE) if tag is None else not _CLOSES.search(tag)
        opened = marker[0] if opens else None
    return opened


@lru_cache(maxsize=64)
def _rendered(template: str, names: str, roles: str) -> Rendered:
    request = {"template": template, "names": json.loads(names), "libraries": _libraries()}
    answer = _ask_child(request)
    if "error" in answer:
        raise UserError(
            f"the model's chat template refuses {roles} ({one_line(answer['error'])}); leave out system parts, "
            "or set model.chat=false"
        )
    if "text" not in answer:
        raise UserError(
            f"the model's chat template takes too long or too much memory ({_LIMITS}); fix it, or set model.chat=false"
        )
    if _ask_child(request) != answer:  # it writes an object with its address, say
        raise UserError("the model's chat template writes another text each time; fix it, or set model.chat=false")
    return Rendered(text=answer["text"], reads=frozenset(answer["reads"]))


def _ask_child(request: Mapping[str, object]) -> dict[str, Any]:
    """The child's answer, an empty one where a limit ended it."""
    command = [sys.executable, "-I", "-S", chat_child.__file__]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    try:
        child = subprocess.run(
            command,
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=_LONGEST_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {}
    if child.returncode in (-signal.SIGXCPU, -signal.SIGKILL, -signal.SIGSEGV):
        return {}
    try:
        answer = json.loads(child.stdout)
    except ValueError:
        return {"error": child.stderr.decode(errors="replace")[-300:] or f"exit code {child.returncode}"}
    return answer if isinstance(answer, dict) else {}


def _libraries() -> list[str]:
    """Folders of what the child imports: not the complete path, which may begin with a folder of the user's."""
    return sorted({str(Path(str(module.__file__)).parent.parent) for module in (jinja2, markupsafe)})
