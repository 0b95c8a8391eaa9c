"""Check `rules`: what can be said of a template without a model. A rule that rejects what people write costs more than
one that lets nonsense pass, so each rejects only what leaves no doubt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import regex

from paft_ray.prompts.checks.foreign import asks_for_another_task
from paft_ray.prompts.checks.stated import states_an_answer
from paft_ray.prompts.checks.verdict import Verdict
from paft_ray.prompts.checks.words import content_words, literal, names, without_labels
from paft_ray.prompts.gate import rejection
from paft_ray.prompts.template import PromptTemplate, TemplateError
from paft_ray.tasks.task import Task

_TOKEN = regex.compile(
    r"<\|[^|<>\s]{1,40}\|>|<\uff5c[^\uff5c<>]{1,40}\uff5c>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>"
)
"""Special tokens of chat templates, which a model that goes on after its answer writes out."""
_ROLE = regex.compile(r"^[ \t]*(?:#+[ \t]*)?(user|human|assistant)[ \t]*(?::|$)", regex.IGNORECASE | regex.MULTILINE)
_ANSWERS = regex.compile(r"(?:^|\n)[ \t]*(?:#+[ \t]*)?assistant[ \t]*:?\s*\Z", regex.IGNORECASE)
_EAST_ASIAN = r"\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}"
_LATIN = regex.compile(r"\p{Script=Latin}")
_SCRIPTS = {
    "east_asian": regex.compile(rf"[{_EAST_ASIAN}]"),
    **{
        name.lower(): regex.compile(rf"\p{{Script={name}}}")
        for name in ("Greek", "Cyrillic", "Armenian", "Georgian", "Hebrew", "Arabic", "Devanagari", "Bengali", "Thai")
    },
}
_WORD = regex.compile(r"\p{L}+")
_ALIKE = regex.compile(r"[\p{Script=Cyrillic}\p{Script=Greek}]")
_LONGEST_SYMBOL = 3
"""Letters of a unit or a formula: `µm`, `Δt`."""
_STRAY = 0.2
"""Fraction of another script's letters in a Latin text up to which they are no second language."""


class Rules:
    """The rules of this file, the first broken one is the reason."""

    def check(self, candidates: Sequence[PromptTemplate], task: Task) -> list[Verdict]:
        """One verdict per candidate, without a score."""
        reasons = [broken_rule(template, task) for template in candidates]
        return [Verdict(score=None, passed=reason is None, reason=reason) for reason in reasons]


def refusal(template: PromptTemplate, task: Task, *, max_words: int) -> str | None:
    """Why what a generator wrote is not used, by the gate or the first rule that it breaks; None where nothing speaks
    against it."""
    return rejection(template, task, max_words=max_words) or broken_rule(template, task)


def broken_rule(template: PromptTemplate, task: Task) -> str | None:
    """The first rule that a template breaks, or None; `unparsable` where it has no parts."""
    try:
        text = literal(template)
    except TemplateError:
        return "unparsable"
    return next((name for name, breaks in _RULES.items() if breaks(text, task)), None)


def _has_role_marker(text: str, task: Task) -> bool:
    """A special token of a chat template, or the line of a role that is not the end of a dialogue: `User: ...`, then
    `Assistant:` for the model to go on with, is one."""
    if _TOKEN.search(text):
        return True
    labels = {label.lower() for label in task.label_texts}
    roles = [found[1].lower() for found in _ROLE.finditer(text) if found[1].lower() not in labels]
    return bool(roles) and not (_ANSWERS.search(text) and {"user", "human"} & set(roles))


def _has_no_content(text: str, task: Task) -> bool:
    """Nothing but fields and small words: no label in a question or in front of a colon, and not all of them."""
    if content_words(text, task):
        return False
    named = [names(text, label) for label in task.label_texts]
    return not (any(named) and (all(named) or regex.search("[?:/\uff1f\uff1a]", text)))


def _mixes_scripts(text: str, task: Task) -> bool:
    """A word of two scripts, two scripts besides the Latin one, or a few letters of another one in a Latin text.
    Scripts of the task itself do not count."""
    own = f"{task.description} {' '.join(task.label_texts)} {task.answer_format or ''}"
    known = {name for name, letters in _SCRIPTS.items() if letters.search(own)}
    words = (word for word in _WORD.findall(text) if len(word) > _LONGEST_SYMBOL)
    if any(_ALIKE.search(word) and _LATIN.search(word) for word in words):  # `nеgative` with a Cyrillic е
        return True
    rest = without_labels(text, task)
    counts = {name: len(letters.findall(rest)) for name, letters in _SCRIPTS.items() if name not in known}
    found = {name: count for name, count in counts.items() if count > (_LONGEST_SYMBOL if name == "greek" else 0)}
    total = len(_LATIN.findall(rest)) + sum(counts.values())
    return len(found) > 1 or any(count < _STRAY * total for count in found.values())


_RULES: dict[str, Callable[[str, Task], bool]] = {
    "role_marker": _has_role_marker,
    "mixed_scripts": _mixes_scripts,
    "states_answer": states_an_answer,
    "other_task": asks_for_another_task,
    "no_content": _has_no_content,
}
"""Reason -> whether a text breaks the rule."""
