"""Task files of lm-evaluation-harness: one template each, `doc_to_text` behind `description`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paft_ray.prompts.published.found import Found, Unusable, found
from paft_ray.prompts.published.names import REFERENCE, Names
from paft_ray.prompts.published.plain_jinja import plain_text
from paft_ray.prompts.published.plain_yaml import Code, read_plain_yaml
from paft_ray.prompts.template import PromptTemplate

_MOST_INCLUDES = 4
_TARGET = re.compile(
    rf"\{{\{{-?\s*(?:(?P<name>{REFERENCE})(?:\s*\|\s*(?:int|trim)|\.strip\(\))?"
    rf"|\[[^\[\]{{}}]*\]\.index\((?P<indexed>{REFERENCE})\))\s*-?\}}\}}"
)
"""The answer itself, or its place in a list."""
_WORDS = {"if", "is", "defined", "else"}


def is_lm_eval(value: Any) -> bool:
    """Whether a YAML file holds a task, or a group of tasks."""
    return isinstance(value, dict) and bool(
        {"doc_to_text", "dataset_path", "include", "use_prompt", "group"} & set(value)
    )


def lm_eval(value: Mapping[str, Any], names: Names, path: Path) -> list[Found]:
    """The one template of the file."""
    task = _with_includes(value, path)
    name = task.get("task")
    return [found(name if isinstance(name, str) else "task", task.get("doc_to_text"), lambda: _template(task, names))]


def _with_includes(value: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The task with what the files that it includes say, those of its own folder alone."""
    task = dict(value)
    for _ in range(_MOST_INCLUDES):
        named = task.get("include")
        if not isinstance(named, str) or "/" in named or "\\" in named or not (path.parent / named).is_file():
            break
        del task["include"]
        included = read_plain_yaml(path.parent / named)
        task = {**(included if isinstance(included, dict) else {}), **task}
    return task


def _template(task: Mapping[str, Any], names: Names) -> PromptTemplate:
    text, before = task.get("doc_to_text"), task.get("description") or ""
    if isinstance(text, Code) or isinstance(before, Code):
        raise Unusable("code", str(text))
    if not isinstance(text, str) or not text.strip():
        raise Unusable("other_file" if "include" in task else "no_prompt")
    _check_answer(task, names)
    if re.fullmatch(r"[A-Za-z_]\w*", text):  # the name of a column
        text = f"{{{{ {text} }}}}"
    return PromptTemplate(text=plain_text(f"{before if isinstance(before, str) else ''}{text}", names))


def _check_answer(task: Mapping[str, Any], names: Names) -> None:
    """Raises `Unusable` where something else than the task's answer is asked for."""
    choices, target = task.get("doc_to_choice"), task.get("doc_to_target")
    if isinstance(choices, Code) or isinstance(target, Code):
        raise Unusable("code", str(choices if isinstance(choices, Code) else target))
    if isinstance(choices, dict):
        choices = list(choices.values())
    if isinstance(choices, list):
        names.check_choices(choices)
    elif choices is not None:
        raise Unusable("other_answer", str(choices))  # the text of an option, not its label
    if isinstance(target, str) and not _is_answer(target, names):
        raise Unusable("other_answer", target)


def _is_answer(target: str, names: Names) -> bool:
    """Whether a target is the row's answer: by its column, or read from it."""
    if re.fullmatch(REFERENCE, target):
        return not names.is_field(target)
    whole = _TARGET.fullmatch(target.strip())
    if whole:
        return not names.is_field(whole["name"] or whole["indexed"])
    used = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", re.sub(r"'[^']*'|\"[^\"]*\"", "", target))) - _WORDS
    return not names.task.label_texts and bool(used) and all(map(names.is_answer, used))
