"""A grader is one file and one registry entry."""

from pathlib import Path
from typing import ClassVar

import pytest

from paft_ray.tasks.example import Example
from paft_ray.tasks.graders import registry
from paft_ray.tasks.graders.grader import GraderSettings
from paft_ray.tasks.task import load_task

TASK = "name: t\ndescription: d\nfields: {text: the text}\ngrader: {type: at_least, share: 0.5}\n"


class AtLeast(GraderSettings):
    """Right for an answer with at least this share of the reference's length."""

    is_graded: ClassVar[bool] = False
    labels: ClassVar[tuple[str, ...]] = ()
    share: float

    def parse(self, completion: str) -> str | None:
        return completion.strip() or None

    def parse_strict(self, completion: str) -> str | None:
        return completion or None

    def score(self, prediction: str, example: Example) -> float:
        return float(len(prediction) >= self.share * len(example.answer))


def test_one_registry_entry_makes_a_grader_of_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.GRADERS, "at_least", AtLeast)
    path = tmp_path / "t.yaml"
    path.write_text(TASK)
    task = load_task(str(path))
    assert task.grader == AtLeast(share=0.5)
    assert task.label_texts == task.grader.labels == ()
    reference = task.example({"text": "x", "label": "abcd"}, "rows.jsonl:1")
    assert [task.grader.score(text, reference) for text in ("a", "ab", "abcd")] == [0, 1, 1]
