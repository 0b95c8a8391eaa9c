"""The gate: every template, written by a model or brought by a user, is repaired, kept or rejected with a counted reason.

A template with a hidden character is rejected (`hidden_character`): a control character other than tab and line feed, a bidirectional mark or
override, a zero-width character, a line separator, private use. Nobody who reads the template would see it, yet the model does. Text from right to left
needs none of them; the joiners of Persian and Indic words and of emoji are kept where they join. Rows of data keep every character (data is what it
is); reports and the command line write hidden ones out (`\\u202e`), see `paft_ray.text`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from paft_ray.errors import UserError, check_text
from paft_ray.files import LARGEST_TEXT, read_regular
from paft_ray.prompts.prompt_set import read_templates
from paft_ray.prompts.template import PromptTemplate, Slot, TemplateError
from paft_ray.tasks.readers import read_json
from paft_ray.tasks.task import Task
from paft_ray.text import holds_hidden

_FIELD = "\0"  # stands for a field's value in the wording that is inspected
_BRACKET = re.compile(r"\[([^\[\]\n]+)\]")
_ANGLE = re.compile(r"<([A-Za-z][^<>\n/]*)>")
_ROUND = re.compile(r"\(\s*(?:insert|describe|fill in)\b[^()\n]*\)", re.IGNORECASE)
_PLACE = frozenset(("the", "your", "final", "numeric", "numerical", "answer", "number", "result", "value", "solution"))
_LONGEST_WORD = 100  # characters per word on average; languages without spaces have long ones
_ORDER = re.compile(r"\s*(?:insert|describe|explain|specify|your|fill|add|enter|put)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What came through the gate and what did not."""

    kept: list[PromptTemplate]
    """Repaired templates, in the order read."""
    verdicts: list[str | None]
    """[number read] None where kept, else the reason of the rejection."""
    repaired: dict[str, int]
    """Reason -> number of kept templates that were repaired."""
    rejected: dict[str, int]
    """Reason -> number of templates."""

    def summary(self) -> dict[str, Any]:
        """`{"read", "kept", "repaired": {reason: n}, "rejected": {reason: n}}`."""
        return {"read": len(self.verdicts), "kept": len(self.kept), "repaired": self.repaired, "rejected": self.rejected}


def gate(candidates: Iterable[PromptTemplate | str], task: Task, *, max_words: int) -> GateResult:
    """Templates that parse, name each field of the task and no other, hold wording, no unfilled slot and no answer, and are new."""
    kept: dict[str, PromptTemplate] = {}
    verdicts: list[str | None] = []
    repaired: Counter[str] = Counter()
    for candidate in candidates:
        template, repairs = repair(PromptTemplate(text=candidate) if isinstance(candidate, str) else candidate)
        reason = rejection(template, task, max_words=max_words)
        if reason is None and template.id in kept:
            reason = "duplicate"
        verdicts.append(reason)
        if reason is None:
            kept[template.id] = template
            repaired.update(repairs)
    rejected = Counter(reason for reason in verdicts if reason is not None)
    return GateResult(kept=list(kept.values()), verdicts=verdicts, repaired=dict(repaired), rejected=dict(rejected))


def repair(template: PromptTemplate) -> tuple[PromptTemplate, list[str]]:
    """The template with literal backslash-n turned into line breaks and outer spaces removed, and the names of the repairs.

    A line break at the end stays: it decides whether the answer follows a space or stands on a line of its own.
    """
    text = _unescaped(template.text)
    system = _unescaped(template.system).strip() if template.system else None
    repairs = ["literal_newline"] if "\\n" in f"{template.text}{template.system or ''}" else []
    return PromptTemplate(text=text.lstrip().rstrip(" \t"), system=system or None), repairs


def _unescaped(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\\r\\n", "\n").replace("\\n", "\n").replace("\\t", "\t")


def rejection(template: PromptTemplate, task: Task, *, max_words: int) -> str | None:
    """Why a template is refused, or None."""
    if len(template.text) + len(template.system or "") > _LONGEST_WORD * max_words:  # before it is searched: a search may take the square of the length
        return "too_long"
    if holds_hidden(f"{template.text}\n{template.system or ''}"):
        return "hidden_character"
    try:
        named = template.fields
    except TemplateError:
        return "unparsable"
    if set(task.fields) - set(named):
        return "missing_field"
    if set(named) - set(task.fields):
        return "unknown_field"
    wording = "".join(_FIELD if isinstance(part, Slot) else part.text for part in template.parts)
    whole = f"{template.system}\n{wording}" if template.system else wording
    count = len(re.findall(r"\w+", whole))
    if _unfilled(whole, task) or (not count and re.search(r"\.\.\.|…", whole)):
        return "unfilled_slot"
    if _leaks(wording, task) or (template.system and _leaks(template.system, task)):
        return "leaks_answer"
    if count > max_words:
        return "too_long"
    return None if count else "too_short"


def _unfilled(wording: str, task: Task) -> bool:
    """A slot that the writer left open: `[describe the topic]`, `<your answer>`, `(insert text)`.

    Brackets around a field, a list of labels or a single letter, a one-word heading of a line, and tags with a closing tag are wording.
    Braces that are left (`{{review}}`, or `{role}` in a system part) would reach the model as they are.
    """
    if re.search(r"\{\s*\w+\s*\}", wording):
        return True
    labels = {label.lower() for label in task.label_texts} | {"or", "and"}
    place = _PLACE if task.kind == "free" else frozenset()  # `#### <number>` says where a free answer stands
    for match in _BRACKET.finditer(wording):
        words = re.findall(r"\w+", match.group(1).lower())
        if words and (place.issuperset(words) or f"[/{match.group(1)}]" in wording or match.group(1).startswith("/")):
            continue
        heading = len(words) == 1 and wording[: match.start()].rpartition("\n")[2].strip() == "" and not _ORDER.match(match.group(1))
        if words and _FIELD not in match.group() and not heading and any(len(w) > 1 and not w.isdigit() and w not in labels for w in words):
            return True
    for match in _ANGLE.finditer(wording):
        words = re.findall(r"\w+", match.group(1).lower())
        if not place.issuperset(words) and words != ["br"] and f"</{match.group(1).split()[0]}>" not in wording:
            return True
    return _ROUND.search(wording) is not None


def _leaks(wording: str, task: Task) -> bool:
    """The wording ends by stating an answer (`Answer: positive`, `#### 42`), not by listing the choices."""
    end = wording.rstrip(" \t\n.\"'!*)]")
    if task.kind == "free":
        matches = list(re.finditer(task.pattern or "", wording))
        return bool(matches) and matches[-1].end() >= len(end)
    before, _, last = end.rpartition("\n")
    stated = re.search(rf"(?P<lead>^|[:=>→?{_FIELD}]|\bis)[\s\"'(\[*]*(?P<label>{_any(task.label_texts)})$", last)
    if stated is None:
        return False
    if stated.group("lead"):  # `1: positive, 2: negative` lists, `Positive or negative? Answer: negative` states
        others = [label for label in task.label_texts if label.lower() != stated.group("label").lower()]
        before_it = re.split(rf"[.?!{_FIELD}]", last[: stated.end("lead")].rstrip(f"?{_FIELD}"))[-1]
        return not re.search(rf"\b(?:{_any(others)})\b", before_it) or re.search(rf"\b(?:{_any([stated.group('label')])})\b", before_it) is not None
    return not re.fullmatch(rf"\W*(?:{_any(task.label_texts)})\W*", before.rpartition("\n")[2])


def _any(labels: Iterable[str]) -> str:
    """Pattern of any of the labels; letter case counts only in single letters (`a` is an article)."""
    return "|".join(re.escape(label) if len(label) == 1 else f"(?i:{re.escape(label)})" for label in sorted(labels, key=len, reverse=True))


def import_templates(path: str, task: Task, max_words: int) -> GateResult:
    """What the gate makes of a file: JSONL (`text`, optional `system`), JSON (list of texts or such objects) or text (one template per line).

    Raises `UserError` with file and line where the file cannot be read.
    """
    return gate(_read(path), task, max_words=max_words)


def _read(path: str) -> list[PromptTemplate]:
    if path.endswith(".jsonl"):
        return read_templates(path)
    if not path.endswith((".json", ".txt")):
        raise UserError(f"templates {path}: unknown kind of file; allowed: .jsonl, .json, .txt")
    try:
        text = read_regular(path, largest=LARGEST_TEXT).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"templates {path}: cannot be read ({error}); give a UTF-8 .jsonl, .json or .txt file") from None
    if path.endswith(".txt"):
        found: list[Any] = [line for line in text.splitlines() if line.strip()]
    else:
        try:
            found = read_json(text)
        except ValueError as error:
            raise UserError(f"{path}:{getattr(error, 'lineno', 1)}: not JSON ({error}); give a list of texts, or of objects with `text`") from None
    rows = [row if isinstance(row, dict) else {"text": row} for row in found] if isinstance(found, list) else []
    if not rows or not all(isinstance(row.get("text"), str) and isinstance(row.get("system"), str | None) for row in rows):
        raise UserError(f"templates {path}: no list of texts, or of objects with `text` (and optional `system`), in the file; mend it")
    for number, row in enumerate(rows, start=1):
        check_text(row["text"] + (row.get("system") or ""), "text", f"{path}: template {number}")
    return [PromptTemplate(text=row["text"], system=row.get("system")) for row in rows]
