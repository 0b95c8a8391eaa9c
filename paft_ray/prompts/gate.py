"""The gate: every template, written by a model or brought by a user, is repaired, kept or rejected with a counted
reason.

A template with a hidden character is rejected (`hidden_character`): a control character other than tab and line feed, a
bidirectional mark or override, a zero-width character, a line separator, private use. Nobody who reads the template
would see it, yet the model does. Text from right to left needs none of them; the joiners of Persian and Indic words and
of emoji are kept where they join. Rows of data keep every character (data is what it is); reports and the command line
write hidden ones out (`\\u202e`), see `paft_ray.sanitize`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import regex

from paft_ray.prompts.template import PromptTemplate, Slot, TemplateError
from paft_ray.sanitize import holds_hidden
from paft_ray.tasks.pattern import finditer
from paft_ray.tasks.task import Task

_FIELD = "\0"  # stands for a field's value in the text that is inspected
_BRACKET = re.compile(r"\[([^\[\]\n]+)\]")
_ANGLE = re.compile(r"<([A-Za-z][^<>\n/]*)>")
_ROUND = re.compile(r"\(\s*(?:insert|describe|fill in)\b[^()\n]*\)", re.IGNORECASE)
_PLACE = frozenset(("the", "your", "final", "numeric", "numerical", "answer", "number", "result", "value", "solution"))
_LONGEST_WORD = 100  # characters per word on average; languages without spaces have long ones
_ESCAPE = r"(?<!\\)(?:\\r)?\\[nt]"
_BREAK = regex.compile(rf"{_ESCAPE}(?!\p{{Ll}}+(?!\p{{L}})|(?:(?:Left|Right|Leftright)arrow|V[dD]ash)(?!\p{{L}}))")
r"""An escape that may stand for white space: behind it is no word in small letters (`\neq`, `C:\new`), nor one of TeX's
commands with a capital."""
_PLAIN_BREAK = regex.compile(rf"{_BREAK.pattern}(?:(?= ?(?:[\p{{Lu}}\p{{Lo}}]|\{{[A-Za-z_]|\\[nrt]))|(?<=\S\\[nt])$)")
_QUOTED = re.compile(r"\"[^\"]*\"|`[^`]*`|(?<!\w)'[^']*'(?!\w)|\b[A-Za-z]:\\[nt]\w+")
r"""Where a backslash belongs to the text: `print("A\nB")`, `C:\nAdmin`."""
_SENTENCE = rf"[.?!:;\n{_FIELD}]"
_CONDITION = re.compile(r"\b(?:if|unless|when|otherwise|else)\b", re.IGNORECASE)
_ASKED = re.compile(
    r"\b(?:if|unless|when|otherwise|whether|which|what|where|how|who)\b|^\W*(?:do|does|did|would|could|should|can|may|is|are|was)\b"
    r"|^\W*(?:please\s+)?(?:check|verify|confirm|ensure|make "
    r"sure)\b|^\W*(?:an?|any|every)\b(?!.*(?:,|\b(?:the|this|that|it)\b))"
    r"|\b(?:check|verify|confirm|ensure|sure|likely|chance|probability)\b.*\bthat\b|\b(?!(?:say|think|believe|know)\b)\w+\s+that\s*$",
    re.IGNORECASE | re.DOTALL,
)
"""A clause that asks, sets a condition or defines: `Decide whether the message is spam`, `A text without an opinion is
neutral`."""
_BRACES = regex.compile(r"(?<!\\[A-Za-z]{1,20}|[}^_])\{\s*\w+\s*\}")
"""Braces in the text itself, other than an argument of TeX (`\\frac{1}{2}`, `x^{2}`)."""
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

    @property
    def rejected(self) -> dict[str, int]:
        """Reason -> number of templates."""
        return dict(Counter(reason for reason in self.verdicts if reason is not None))

    def summary(self) -> dict[str, Any]:
        """`{"read", "kept", "repaired": {reason: n}, "rejected": {reason: n}}`."""
        return {
            "read": len(self.verdicts),
            "kept": len(self.kept),
            "repaired": self.repaired,
            "rejected": self.rejected,
        }


def gate(candidates: Iterable[PromptTemplate | str], task: Task, *, max_words: int) -> GateResult:
    """Templates that parse, name each field of the task and no other, hold text of their own, no unfilled slot and no
    answer, and are new.

    `candidates`: those of one file, which decide together whether a literal backslash-n is a line break.
    """
    kept: list[PromptTemplate] = []
    verdicts: list[str | None] = []
    repaired: Counter[str] = Counter()
    for template, repairs, reason in gated(candidates, task, max_words=max_words):
        verdicts.append(reason)
        if reason is None:
            kept.append(template)
            repaired.update(repairs)
    return GateResult(kept=kept, verdicts=verdicts, repaired=dict(repaired))


def gated(
    candidates: Iterable[PromptTemplate | str], task: Task, *, max_words: int
) -> Iterator[tuple[PromptTemplate, list[str], str | None]]:
    """Each of the templates of `gate` as it was repaired, the names of its repairs, and the reason of its rejection."""
    given = [PromptTemplate(text=candidate) if isinstance(candidate, str) else candidate for candidate in candidates]
    escaped, kept = holds_escapes(given), set[str]()
    for candidate in given:
        template, repairs = repair(candidate, escaped=escaped)
        reason = rejection(template, task, max_words=max_words)
        if reason is None and template.id in kept:
            reason = "duplicate"
        if reason is None:
            kept.add(template.id)
        yield template, repairs, reason


def repair(template: PromptTemplate, *, escaped: bool = False) -> tuple[PromptTemplate, list[str]]:
    r"""The template with outer spaces removed and each literal backslash-n that stands for a line break turned into
    one, and the names of the repairs.

    `escaped`: what `holds_escapes` says of the template's file; without it the template alone must leave no doubt, else
    the text is kept (`$x \neq 0$`). A line break at the end stays: it decides whether the answer follows a space or
    stands on a line of its own.
    """
    given = _parts(template)
    text, system = [_unescaped(part) for part in given] if escaped or _unmistakable(template) else given
    repairs = ["literal_newline"] if [text, system] != given else []
    return replace(template, text=text.lstrip().rstrip(" \t"), system=system.strip() or None), repairs


def holds_escapes(templates: Sequence[PromptTemplate]) -> bool:
    """Whether these templates, of one file, write their line breaks as backslash-n: none holds a real one, and most
    that hold backslash-n leave no doubt."""
    found = [template for template in templates if any(re.search(_ESCAPE, part) for part in _parts(template))]
    real = any("\n" in part for template in templates for part in _parts(template))
    return not real and 2 * sum(map(_unmistakable, found)) > len(found)


def _unmistakable(template: PromptTemplate) -> bool:
    """Every backslash is one of a line break before a capital letter, a field or another break, or at the end; none
    stands in quotes or in a path."""
    parts = _parts(template)
    if not any("\\n" in part for part in parts) or any("\n" in part.strip() for part in parts):
        return False
    return not any(
        "\\" in _PLAIN_BREAK.sub("", part) or any("\\" in quoted for quoted in _QUOTED.findall(part)) for part in parts
    )


def _parts(template: PromptTemplate) -> list[str]:
    return [part.replace("\r\n", "\n") for part in (template.text, template.system or "")]


def _unescaped(text: str) -> str:
    return str(_BREAK.sub(lambda found: "\t" if found.group().endswith("t") else "\n", text))


def rejection(template: PromptTemplate, task: Task, *, max_words: int) -> str | None:
    """Why a template is refused, or None."""
    if (
        len(template.text) + len(template.system or "") > _LONGEST_WORD * max_words
    ):  # before it is searched: a search may take the square of the length
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
    text = "".join(_FIELD if isinstance(part, Slot) else part.text for part in template.parts)
    complete = f"{template.system}\n{text}" if template.system else text
    count = len(re.findall(r"\w+", complete))
    if _unfilled(complete, task) or (not count and re.search(r"\.\.\.|…", complete)):
        return "unfilled_slot"
    if _leaks(text, task) or (template.system and _leaks(template.system, task)):
        return "leaks_answer"
    if count > max_words:
        return "too_long"
    return None if count else "too_short"


def _unfilled(text: str, task: Task) -> bool:
    """A slot that the writer left open: `[describe the topic]`, `<your answer>`, `(insert text)`.

    Brackets around a field, a list of labels or a single letter, a one-word heading of a line, and tags with a closing
    tag are text. Braces that are left (`{{review}}`, or `{role}` in a system part) would reach the model as they
    are.
    """
    if _BRACES.search(text):
        return True
    labels = {label.lower() for label in task.label_texts} | {"or", "and"}
    place = frozenset() if task.label_texts else _PLACE  # `#### <number>` says where a free answer stands
    for match in _BRACKET.finditer(text):
        words = re.findall(r"\w+", match.group(1).lower())
        if words and (place.issuperset(words) or f"[/{match.group(1)}]" in text or match.group(1).startswith("/")):
            continue
        heading = (
            len(words) == 1
            and text[: match.start()].rpartition("\n")[2].strip() == ""
            and not _ORDER.match(match.group(1))
        )
        if (
            words
            and _FIELD not in match.group()
            and not heading
            and any(len(w) > 1 and not w.isdigit() and w not in labels for w in words)
        ):
            return True
    for match in _ANGLE.finditer(text):
        words = re.findall(r"\w+", match.group(1).lower())
        if not place.issuperset(words) and words != ["br"] and f"</{match.group(1).split()[0]}>" not in text:
            return True
    return _ROUND.search(text) is not None


def _takes_anything(task: Task) -> bool:
    """Whether the pattern finds an answer in whatever is written, as `(.+)` does."""
    try:
        return bool(finditer(task.answer_pattern or "", "Please reply"))
    except TimeoutError:
        return False


def _leaks(text: str, task: Task) -> bool:
    """The text ends by stating an answer (`Answer: positive`, `#### 42`), not by listing the choices or asking
    whether one holds."""
    end = text.rstrip(" \t\n.\"'!*)]")
    if not task.label_texts:
        try:
            matches = finditer(task.answer_pattern, text) if task.answer_pattern else []
        except TimeoutError:
            return False
        if not matches or matches[-1].end() < len(end) or _takes_anything(task):
            return False
        clause = re.split(rf"[.?!\n{_FIELD}]", text[: matches[-1].start()])[-1]
        first = matches[-1].start() - len(clause)
        values = {match.group(1) for match in matches if match.start() >= first}
        return len(values) == 1  # `from 1 to 5` and `A, B or C` name the choices
    *above, last = end.rsplit("\n", 2)
    before = above[-1] if above else ""
    stated = re.search(rf"(?P<lead>^|[:=>→?{_FIELD}]|\bis)[\s\"'(\[*]*(?P<label>{_any(task.label_texts)})$", last)
    if stated is None:
        return False
    if stated.group("lead") == "is":
        return not _ASKED.search(
            re.split(_SENTENCE, re.sub(r"\n(?=[ \t]*[a-z])", " ", end)[: -len(stated.group())])[-1]
        )
    opening = last[: stated.start("lead")].strip()
    marked = r"\W*\w\W*[:=>→]" if opening else ""  # a line of a label, or `0: negative`, makes the next one a list
    if (not opening or re.fullmatch(r"\W*\w\W*", opening)) and re.fullmatch(
        rf"{marked}\W*(?:{_any(task.label_texts)})\W*", before
    ):
        return False
    if not opening:
        return True
    # `1: positive, 2: negative` lists, `Positive or negative? Answer: negative` states
    others = [label for label in task.label_texts if label.lower() != stated.group("label").lower()]
    before_it = re.split(rf"[.?!{_FIELD}]", last[: stated.end("lead")].rstrip(f"?{_FIELD}"))[-1]
    if re.search(rf"\b(?:{_any([stated.group('label')])})\b", before_it):
        return True
    return not re.search(rf"\b(?:{_any(others)})\b", before_it) and not _CONDITION.search(before_it)


def _any(labels: Iterable[str]) -> str:
    """Pattern of any of the labels; letter case counts only in single letters (`a` is an article)."""
    return "|".join(
        re.escape(label) if len(label) == 1 else f"(?i:{re.escape(label)})"
        for label in sorted(labels, key=len, reverse=True)
    )
