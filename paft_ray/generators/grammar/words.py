"""What the grammar takes from a task: its description as a request, the names of its fields and its answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from paft_ray.errors import UserError
from paft_ray.prompts.template import escaped
from paft_ray.sanitize import masked
from paft_ray.tasks.task import Task

_NO_VERBS = frozenset(
    re.findall(
        r"\S+",
        "a an the this that these those there here it its his her their our my your you we i he she they one some any "
        "all each every no is are was were does did has have had will would can could should may might must if when "
        "whether which what who whom whose where why how given for from in on at by with about as to of and or but not "
        "do don't please task question answers classification sentiment",
    )
)
_NO_IMPERATIVE = re.compile(r"(?<![su])s$|ing$|ly$")
_VERBS = frozenset(("bring", "sing", "string", "apply", "reply", "multiply", "supply", "comply", "rely", "imply"))
_NOUN = re.compile(r"(?:the|an?|what|where|who|how|one|two|three|four|its|their|all|some|each)\s\S")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_LISTED_WORDS = 40  # of all labels; more are not listed


@dataclass(frozen=True, kw_only=True)
class Words:
    """The words of one task, with braces doubled as templates write them."""

    do: str
    """The description without its period, in small letters: `decide whether a review is positive`."""
    context: dict[str, str]
    """Field -> what it holds, of the fields that are no options: `the text of the review`."""
    options: dict[str, tuple[str, str]]
    """Label -> (field, what it holds)."""
    labels: tuple[str, ...]
    """Answers; `()`: they are free."""
    answer_format: str

    @cached_property
    def names_labels(self) -> bool:
        """Whether the description names every answer."""
        return all(re.search(rf"\b{re.escape(label)}\b", self.do) for label in self.labels)

    @cached_property
    def are_listed(self) -> bool:
        """Whether the answers are few enough to be listed."""
        return len(re.findall(r"\w+", " ".join(self.labels))) <= _LISTED_WORDS

    @property
    def it(self) -> str:
        """What is given: `the text and the question`."""
        return listed(list(self.context.values()), "and") or "the options"

    @property
    def count(self) -> str:
        """Number of answers, as a word where it is small."""
        return _NUMBERS[len(self.labels)] if len(self.labels) < len(_NUMBERS) else str(len(self.labels))

    @property
    def mark(self) -> str:
        """What the name of an option is: `letter`, `number` or `label`."""
        if all(len(label) == 1 and label.isalpha() for label in self.options):
            return "letter"
        return "number" if all(label.isdigit() for label in self.options) else "label"


def words_of(task: Task) -> Words:
    """The words of a task. Raises `UserError` where its description or what it says of a field does not fit into
    sentences."""
    description = task.description.strip()
    if fault := _fault(description):
        raise UserError(
            f"task {task.name}: description: {masked(description)[:60]!r} {fault}; for a grammar write one sentence "
            "that tells the reader what to do, e.g. 'Decide whether a review is positive or negative.'"
        )
    for name, what in task.fields.items():
        if not _NOUN.match(what) or what.rstrip()[-1] in ".:;,!?":
            raise UserError(
                f"task {task.name}: fields.{name}: {masked(what)[:60]!r} cannot stand in a sentence; for a grammar say "
                "what the field holds, beginning with an article in small letters, e.g. 'the text of the review'"
            )
    shown = set(task.options.values())
    return Words(
        do=escaped(description[0].lower() + description[1:].removesuffix(".")),
        context={name: escaped(what.strip()) for name, what in task.fields.items() if name not in shown},
        options={escaped(label): (name, escaped(task.fields[name].strip())) for label, name in task.options.items()},
        labels=tuple(map(escaped, task.label_texts)),
        answer_format=escaped((task.answer_format or "").strip()),
    )


def _fault(description: str) -> str | None:
    """Why a description is no request of one sentence, None where it is one."""
    first = re.match(r"[^\W\d_]+(?:'t)?(?=[\s,.])", description)
    if first is None or not description.endswith(".") or not description[0].isupper():
        return "does not begin with a capital letter and end with a period"
    if re.search(r"[.!?]\s+[A-Z]|[!?]|\n", description):
        return "is more than one sentence"
    verb = first.group().lower()
    if verb in _NO_VERBS or (_NO_IMPERATIVE.search(verb) and verb not in _VERBS):
        return f"does not begin with a verb that tells what to do ({first.group()})"
    if spoken := re.search(r"\b(?:I|me|my|we|us|our|you|your)\b", description):
        return f"speaks of `{spoken.group()}`, who is another one in other sentences"
    return None


def listed(items: Sequence[str], conjunction: str) -> str:
    """`a, b or c`."""
    return f" {conjunction} ".join(part for part in (", ".join(items[:-1]), items[-1]) if part) if items else ""


def heading(noun: str) -> str:
    """`the first solution` -> `First solution`."""
    bare = re.sub(r"^(?:the|an?)\s+", "", noun)
    return bare[0].upper() + bare[1:]
