"""Their names for what a row holds, and ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from paft_ray.errors import UserError
from paft_ray.prompts.published.found import Unusable
from paft_ray.tasks.task import Task

REFERENCE = r"[A-Za-z_]\w*(?:\.\w+|\[\d+\]|\['\w+'\]|\[\"\w+\"\])*"
"""A name with attributes and constant keys: `goal`, `options.0`, `choices.text[0]`, `endings['A']`."""
_KEY = re.compile(r"\[['\"]?(\w+)['\"]?\]")
_ANSWERS = ("answer", "label", "target", "gold")


@dataclass(frozen=True, kw_only=True)
class Names:
    """Which of their names is which field of the task."""

    fields: Mapping[str, str]
    """Their name, keys behind dots -> our field."""
    answers: frozenset[str]
    """Names of the answer."""
    task: Task

    @classmethod
    def of(cls, task: Task, renames: Sequence[str] = ()) -> Names:
        """The task's own fields and columns, and those of `renames` (`THEIR=OURS`), which come first. Raises
        `UserError`."""
        fields = {name: name for name in task.fields} | {column: name for name, column in task.columns.items()}
        for given in renames:
            theirs, _, ours = given.partition("=")
            if not re.fullmatch(REFERENCE, theirs) or ours not in task.fields:
                raise UserError(
                    f"--map {given}: write THEIR=OURS, a name in their templates and a field of task {task.name}: "
                    f"{', '.join(task.fields)}"
                )
            fields[_dotted(theirs)] = ours
        return cls(fields=fields, answers=frozenset({task.answer, *_ANSWERS} - set(fields)), task=task)

    def field(self, reference: str) -> str:
        """Our field. Raises `Unusable` for a name of the answer and for one that is no field."""
        name = _dotted(reference)
        if name in self.fields:
            return self.fields[name]
        if self.is_answer(name):
            raise Unusable("answer_in_prompt", reference)
        raise Unusable("unknown_field", reference)

    def is_answer(self, reference: str) -> bool:
        """Whether a reference is to the answer of the row."""
        return _dotted(reference) in self.answers

    def is_field(self, reference: str) -> bool:
        """Whether a reference is to a field."""
        return _dotted(reference) in self.fields

    def check_choices(self, choices: Iterable[object]) -> None:
        """Raises `Unusable` unless their allowed answers are the labels of the task, but for letter case and spaces."""
        theirs = [str(choice).strip() for choice in choices]
        if not self.task.label_texts:
            raise Unusable("other_answer", "a choice")
        if {choice.casefold() for choice in theirs} != {label.casefold() for label in self.task.label_texts}:
            raise Unusable("other_labels", ", ".join(theirs))


def _dotted(reference: str) -> str:
    return _KEY.sub(r".\1", reference)
