"""What the readers of rows share: any bytes are rows that the next stage can hold, or a `UserError`."""

from __future__ import annotations

from paft_ray.errors import UserError
from paft_ray.tasks.readers import examples_from_table, examples_to_table, read_examples
from paft_ray.tasks.task import Source, load_task
from tests.fuzz.files import written

TASK = load_task("demo")


def read(name: str, data: bytes) -> None:
    """Reads a file of this name and content."""
    try:
        examples = list(read_examples(TASK, Source(path=written(name, data))))
    except UserError:
        return
    assert examples
    assert len({example.id for example in examples}) == len(examples)
    assert all(example.fields["text"].strip() and example.answer in TASK.label_texts for example in examples)
    assert examples_from_table(examples_to_table(examples, TASK.fields)) == examples
