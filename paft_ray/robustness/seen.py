"""What the runs whose arms are measured have seen: neither a template nor a row that an arm was trained on tests it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from paft_ray.prompts.gate import rejection
from paft_ray.prompts.prompt_set import Entry
from paft_ray.prompts.split import near
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages.prepare import examples_of
from paft_ray.storage.artifacts import PROMPT_SET, ROWS, SplitName
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example, Task, content_id


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Templates and rows of runs. Parts that a run no longer holds count as none."""

    runs: tuple[Store, ...] = ()

    @classmethod
    def of(cls, runs: Iterable[Store | None]) -> Seen:
        """Each run once."""
        return cls(runs=tuple({run.root: run for run in runs if run is not None}.values()))

    @cached_property
    def _templates(self) -> list[list[Entry]]:
        """By run."""
        return [list(PROMPT_SET.read(run).entries) for run in self.runs if run.exists(PROMPT_SET.path)]

    @cached_property
    def _trained(self) -> list[Entry]:
        return [entry for of_run in self._templates for entry in of_run if entry.split == "train"]

    @cached_property
    def frames(self) -> frozenset[str]:
        """Frames of the grammar that an arm was trained on."""
        return frozenset(str(entry.provenance["frame"]) for entry in self._trained if "frame" in entry.provenance)

    def held_out(self, task: Task, *, similarity: float, max_words: int) -> list[PromptTemplate]:
        """The held-out templates of the first run that holds any that go with the task."""
        for of_run in self._templates:
            found = [_template(entry) for entry in of_run if entry.split == "held_out"]
            fitting = [each for each in found if rejection(each, task, max_words=max_words) is None]
            if unseen := self.unseen(fitting, similarity):
                return unseen
        return []

    def unseen(self, templates: Sequence[PromptTemplate], similarity: float) -> list[PromptTemplate]:
        """Those that are neither near a template that an arm was trained on, nor of its frame."""
        leaks = near([Entry(template=each) for each in templates], self._trained, similarity)
        return [each for each in templates if each.id not in leaks and each.frame not in self.frames]

    def test_rows(self, task: Task) -> list[Example]:
        """The test rows of the first run that holds any; none where they are not of this task."""
        for run in self.runs:
            if found := _rows(run, "test"):
                return found if all(_fits(each, task) for each in found) else []
        return []

    def num_trained(self, examples: Sequence[Example]) -> int:
        """How many of the examples an arm was trained on."""
        known = {content_id(row.fields, row.answer) for run in self.runs for row in _rows(run, "train")}
        return sum(content_id(example.fields, example.answer) in known for example in examples)


NOTHING = Seen()


def _template(entry: Entry) -> PromptTemplate:
    names = {name: entry.provenance.get(name) for name in ("group", "frame")}
    return PromptTemplate(text=entry.template.text, system=entry.template.system, **names)


def _rows(run: Store, split: SplitName) -> list[Example]:
    return examples_of(run, split) if run.exists(ROWS[split].path) else []


def _fits(example: Example, task: Task) -> bool:
    is_label = not task.label_texts or example.answer in task.label_texts
    return is_label and example.fields.keys() == task.fields.keys()
