"""What the runs whose arms are measured have seen: neither a template nor a row that an arm was trained on tests it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from paft_ray.errors import UserError
from paft_ray.log import get_logger
from paft_ray.metrics.robustness import MIN_TEMPLATES_INTERVAL
from paft_ray.prompts.gate import rejection
from paft_ray.prompts.prompt_set import Entry
from paft_ray.prompts.split import near
from paft_ray.prompts.template import PromptTemplate
from paft_ray.robustness.models import GivenModel
from paft_ray.stages.prepare import examples_of
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.artifacts import PROMPT_SET, ROWS, SplitName
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example, Task, content_id

T = TypeVar("T")
_log = get_logger(__name__)
_OF_TASK = ("fields", "labels", "description", "answer_format", "options", "kind", "pattern", "grader_settings")
"""Keys in which a run's task is that of the measurement; where its rows are from does not matter."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Templates and rows of runs. Parts that a run does not hold, or that cannot be read, count as none."""

    runs: tuple[Store, ...] = ()
    """Each once."""
    trained: tuple[str, ...] = ()
    """Places of those of which a trained arm is measured."""

    @classmethod
    def of(cls, models: Iterable[GivenModel]) -> Seen:
        """Of the models that are arms of runs."""
        arms = [(model.run, bool(model.trained)) for model in models if model.run is not None]
        return cls(
            runs=tuple({run.root: run for run, _ in arms}.values()),
            trained=tuple({run.root for run, is_trained in arms if is_trained}),
        )

    @cached_property
    def _templates(self) -> dict[str, list[Entry]]:
        """By run."""
        return {run.root: _entries(run) for run in self.runs}

    def _trained(self, *, but: str = "") -> list[Entry]:
        """Training templates of the runs but this one."""
        places = [place for place in self.trained if place != but]
        return [entry for place in places for entry in self._templates[place] if entry.split == "train"]

    @cached_property
    def frames(self) -> frozenset[str]:
        """Frames of the grammar that an arm was trained on."""
        return frozenset(str(entry.provenance["frame"]) for entry in self._trained() if "frame" in entry.provenance)

    def held_out(self, task: Task, *, similarity: float, max_words: int) -> list[PromptTemplate]:
        """The held-out templates of a run of this task, that which leaves most; none where too few are left for an
        interval."""
        most: list[PromptTemplate] = []
        for run in self.runs:
            if not _is_of(run, task):
                continue
            given = [_template(entry) for entry in self._templates[run.root] if entry.split == "held_out"]
            fitting = [each for each in given if rejection(each, task, max_words=max_words) is None]
            left = _unlike(fitting, self._trained(but=run.root), similarity)
            if len(left) < len(fitting):
                _log.info(
                    f"[robustness] {len(left)} of {len(fitting)} held-out templates of run {run.name} are unlike what "
                    "arms of other runs were trained on"
                )
            if 0 < len(left) < MIN_TEMPLATES_INTERVAL:
                _log.info(f"[robustness] run {run.name}: {len(left)} held-out templates are too few, others are taken")
            most = max(most, left, key=len)
        return most if len(most) >= MIN_TEMPLATES_INTERVAL else []

    def unseen(self, templates: Sequence[PromptTemplate], similarity: float) -> list[PromptTemplate]:
        """Those that are neither near a template that an arm was trained on, nor of its frame."""
        return _unlike(templates, self._trained(), similarity)

    def test_rows(self, task: Task) -> list[Example]:
        """The test rows of the first run of this task; none where there is none."""
        found = (_rows(run, "test") for run in self.runs if _is_of(run, task))
        return next(filter(None, found), [])

    def num_trained(self, examples: Sequence[Example]) -> int:
        """How many of the examples an arm was trained on."""
        runs = [run for run in self.runs if run.root in self.trained]
        known = {content_id(row.fields, row.answer) for run in runs for row in _rows(run, "train")}
        return sum(content_id(example.fields, example.answer) in known for example in examples)


NOTHING = Seen()


def _unlike(templates: Sequence[PromptTemplate], trained: Sequence[Entry], similarity: float) -> list[PromptTemplate]:
    frames = {entry.provenance.get("frame") for entry in trained} - {None}
    leaks = near([Entry(template=each) for each in templates], trained, similarity)
    return [each for each in templates if each.id not in leaks and each.frame not in frames]


def _is_of(run: Store, task: Task) -> bool:
    try:
        other = ResolvedRun.load(run).task
    except UserError:
        return False
    return all(getattr(other, key) == getattr(task, key) for key in _OF_TASK)


def _entries(run: Store) -> list[Entry]:
    return _known(run, PROMPT_SET.path, lambda: list(PROMPT_SET.read(run).entries), "what its arms were trained on is")


def _template(entry: Entry) -> PromptTemplate:
    names = {name: entry.provenance.get(name) for name in ("group", "frame")}
    return PromptTemplate(text=entry.template.text, system=entry.template.system, **names)


def _rows(run: Store, split: SplitName) -> list[Example]:
    return _known(run, ROWS[split].path, lambda: examples_of(run, split), f"its {split} rows are")


def _known(run: Store, path: str, read: Callable[[], list[T]], what: str) -> list[T]:
    """What a file of a run holds; nothing, with a line, where it cannot be read."""
    try:
        return read() if run.exists(path) else []
    except UserError as error:
        _log.warning(f"[robustness] run {run.name}: {what} not known ({error})")
        return []
