"""The gate: every template, written by a model or brought by a user, is repaired, kept or rejected with a counted reason."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paft_ray.errors import UserError
from paft_ray.prompts.prompt_set import read_templates
from paft_ray.prompts.template import PromptTemplate, TemplateError
from paft_ray.tasks.task import Task

_UNFILLED = re.compile(r"\[[^\[\]\n]*[a-z][^\[\]\n]*\s[^\[\]\n]*\]|\[(?:insert|describe|your|blank|answer|name)[^\[\]\n]*\]|<(?:insert|describe|your)[^<>\n]*>", re.IGNORECASE)
_MIN_WORDS = 2


@dataclass
class GateResult:
    """What came through the gate and what did not."""

    read: int = 0
    kept: list[PromptTemplate] = field(default_factory=list)
    repaired: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        """`{"read", "kept", "repaired": {reason: n}, "rejected": {reason: n}}`."""
        return {"read": self.read, "kept": len(self.kept), "repaired": dict(self.repaired), "rejected": dict(self.rejected)}


def gate(templates: Iterable[PromptTemplate], task: Task, *, max_words: int) -> GateResult:
    """Templates that parse, name each field of the task once and no other, hold wording, no unfilled slot and no answer, and are new."""
    result = GateResult()
    seen: set[str] = set()
    for raw in templates:
        result.read += 1
        template, repairs = repair(raw)
        reason = rejection(template, task, max_words=max_words)
        if reason is None and template.id in seen:
            reason = "duplicate"
        if reason is not None:
            result.rejected[reason] += 1
            continue
        seen.add(template.id)
        result.repaired.update(repairs)
        result.kept.append(template)
    return result


def repair(template: PromptTemplate) -> tuple[PromptTemplate, list[str]]:
    """The template with literal backslash-n turned into line breaks and outer white space removed, and the names of the repairs."""
    repairs = []
    text = template.text
    if "\\n" in text:
        text = text.replace("\\n", "\n")
        repairs.append("literal_newline")
    if text.strip() != text:
        text = text.strip()
        repairs.append("outer_space")
    return PromptTemplate(text=text, system=template.system), repairs


def rejection(template: PromptTemplate, task: Task, *, max_words: int) -> str | None:
    """Why a template is refused, or None."""
    try:
        named = template.fields
    except TemplateError:
        return "unparsable"
    if set(task.fields) - set(named):
        return "missing_field"
    if set(named) - set(task.fields):
        return "unknown_field"
    if len(named) != len(set(named)):
        return "repeated_field"
    words = " ".join(getattr(part, "text", " ") for part in template.parts)
    if _UNFILLED.search(words):
        return "unfilled_slot"
    if _leaks(template, task):
        return "leaks_answer"
    count = len(re.findall(r"\w+", words))
    if count > max_words:
        return "too_long"
    return "too_short" if count < _MIN_WORDS else None


def _leaks(template: PromptTemplate, task: Task) -> bool:
    """The template ends by giving one label as the answer (`Answer: positive`), or its text after the last field names exactly one label after a colon."""
    if not task.label_texts:
        return False
    labels = "|".join(map(re.escape, sorted(task.label_texts, key=len, reverse=True)))
    return re.search(rf"(?i:answer|label|sentiment|output|response|verdict)\s*(?::|is)\s*[\"']?(?:{labels})[\"'.]?\s*$", template.text) is not None


def read_any(path: str) -> list[PromptTemplate]:
    """Templates of a JSONL (`text`, optional `system`), JSON (list of texts or rows) or text file (one per line). Raises `UserError` with file and line."""
    if path.endswith(".jsonl"):
        return read_templates(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"templates {path}: cannot be read ({error}); give a UTF-8 .jsonl, .json or .txt file") from None
    if path.endswith(".txt"):
        return [PromptTemplate(text=line) for line in text.splitlines() if line.strip()]
    if not path.endswith(".json"):
        raise UserError(f"templates {path}: unknown kind of file; allowed: .jsonl, .json, .txt")
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    texts = [row.get("text") if isinstance(row, dict) else row for row in rows] if isinstance(rows, list) else []
    if not texts or not all(isinstance(t, str) for t in texts):
        raise UserError(f"templates {path}: a JSON list of texts, or of objects with `text`, is needed")
    return [PromptTemplate(text=t) for t in texts]
