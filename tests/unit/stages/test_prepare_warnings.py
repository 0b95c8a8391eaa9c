"""What stage prepare says of rows that make figures too high or too low."""

import pytest

from paft_ray.stages.prepare import _warn_of_rows
from paft_ray.tasks.readers import examples_to_table
from paft_ray.tasks.task import Example, Task, load_task

FREE = Task(
    name="own",
    grader={"type": "token_f1"},
    description="Answer a customer.",
    fields={"text": "what the customer wrote"},
    max_answer_tokens=4,
)


def table(*answers: str) -> object:
    rows = [Example(id=f"e{n}", fields={"text": f"text {n}"}, answer=answer) for n, answer in enumerate(answers)]
    return examples_to_table(rows, ["text"])


def test_rows_that_are_trained_on_and_answers_that_cannot_be_written_are_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    splits = {name: table("one two three", "a b c d e") for name in ("train", "validation", "test")}
    _warn_of_rows(splits, {"validation": 0, "test": 1}, FREE)
    repeated, longer = capsys.readouterr().out.splitlines()
    assert "warning: [prepare] 1 of 2 test rows are training rows, too" in repeated
    assert "1 of 2 test answers have more words than models may write tokens; raise max_answer_tokens (4)" in longer
    _warn_of_rows(splits, {"validation": 0, "test": 0}, load_task("demo"))
    assert capsys.readouterr().out == ""
