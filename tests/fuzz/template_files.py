"""Any bytes as a file of templates, of each kind: templates, or a `UserError`."""

from __future__ import annotations

from paft_ray.errors import UserError
from paft_ray.prompts.imports import import_templates
from paft_ray.prompts.prompt_set import Entry, PromptSet, read_templates
from paft_ray.tasks.task import load_task
from tests.fuzz.files import written

TASK = load_task("demo")


def target(data: bytes) -> None:
    """`data`: the file."""
    for name in ("t.jsonl", "t.json", "t.txt", "t.yaml", "t.csv"):
        path = written(name, data)
        try:
            result = import_templates([path], TASK, 120)
            if name == "t.jsonl":
                assert len(read_templates(path)) == len(result.verdicts)
        except UserError:
            continue
        kept = PromptSet.of(Entry.of_file(template, "user") for template in result.kept)
        if kept.entries:
            again = read_templates(written("again.jsonl", kept.to_jsonl().encode()))
            assert {(t.id, t.group) for t in again} == {(t.id, t.group) for t in kept.templates}
