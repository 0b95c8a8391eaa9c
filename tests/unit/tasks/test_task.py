"""Tasks: what a YAML file may declare, and how completions are judged."""

from pathlib import Path

import pytest

from paft_ray.config import builtin
from paft_ray.errors import UserError
from paft_ray.prompts.prompt_set import check_templates, read_templates
from paft_ray.tasks.example import Example
from paft_ray.tasks.task import content_id, load_task

GOOD = "name: t\nkind: choice\ndescription: d\nfields: {text: the text}\nlabels: ['no', maybe]\n"


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_task(str(path))
    return str(caught.value)


def test_labels_come_in_the_order_of_the_file_without_repeats() -> None:
    assert load_task("trec").label_texts == ("abbreviation", "description", "entity", "human", "location", "number")
    assert load_task("hellaswag").label_texts == ("A", "B", "C", "D")


@pytest.mark.parametrize("name", ["demo", "sst2"])
def test_templates_shipped_with_a_task_name_its_fields(name: str) -> None:
    task = load_task(name)
    for uri in (task.seed_templates, task.held_out_templates):
        path = builtin(*str(uri).removeprefix("builtin:").split("/"))
        check_templates(read_templates(path), task.fields, str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("labels", "label"), "label: Extra inputs"),
        (GOOD.replace("['no', maybe]", "[one]"), "needs at least two"),
        (GOOD.replace("choice", "free"), "needs a regular expression with one group"),
        (GOOD.replace("choice", "free") + "pattern: '(a)(b)'\n", "exactly one group is needed"),
        (GOOD.replace("choice", "free") + "pattern: '('\n", "not a regular expression"),
        (GOOD.replace("choice", "free") + "pattern: '(a)'\n", "a task of kind free has none"),
        (GOOD.replace("kind: choice\n", ""), "kind: choice or free is needed, or grader: {type: ...} instead"),
        (GOOD + "grader: {type: choice}\n", "kind: choice or free is needed, or grader: {type: ...} instead"),
        (GOOD.replace("kind: choice", "grader: {tolerance: 1}"), "grader.type: the name of a grader is needed"),
        (GOOD.replace("kind: choice", "grader: {type: choice, mark: 1}"), "mark: Extra inputs"),
        (GOOD.replace("kind: choice", "grader: {type: regex, pattern: '(a)'}"), "labels: grader regex takes none"),
        (GOOD + "pattern: '(a)'\n", "pattern: is of kind free"),
        (GOOD.replace("{text: the text}", "{}"), "at least one field"),
        (GOOD + "sources: {train: {path: a, dataset: b}}\n", "exactly one of path and dataset"),
        (GOOD + "sources: {dev: {path: a}}\n", "sources"),
        ("name: [", "not valid YAML"),
    ],
)
def test_a_task_that_cannot_work_is_refused_with_its_entry(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(tmp_path, text)


def test_a_label_that_yaml_reads_as_something_else_is_refused(tmp_path: Path) -> None:
    assert "YAML reads False; put the label in quotes" in refused(tmp_path, GOOD.replace("'no'", "no"))
    assert "options: sure: text" in refused(tmp_path, GOOD + "options: {sure: text}\n")
    assert "columns: body are no fields" in refused(tmp_path, GOOD + "columns: {body: text}\n")


@pytest.mark.parametrize(
    ("completion", "correct"),
    [
        ("#### 1,000", True),
        ("#### 1000.", True),
        ("#### 1000\n\nQuestion: and two more?\n#### 1002", True),
        ("#### $1,000", True),
        ("####1000", True),
        ("#### -1000", False),
    ],
)
def test_the_number_of_the_first_answer_counts(completion: str, correct: bool) -> None:
    grader = load_task("gsm8k").grader
    assert grader.score(str(grader.parse(completion)), Example(id="1", fields={}, answer="#### 1000")) == correct


def test_kind_is_short_for_a_grader(tmp_path: Path) -> None:
    short, long = tmp_path / "short.yaml", tmp_path / "long.yaml"
    short.write_text(GOOD)
    long.write_text(GOOD.replace("kind: choice", "grader: {type: choice}"))
    one, other = load_task(str(short)), load_task(str(long))
    assert one.grader == other.grader
    assert one.label_texts == other.label_texts == one.grader.labels
    assert "grader" not in one.model_dump()
    assert other.model_dump()["grader"] == {"type": "choice"}
    assert "kind" not in other.model_dump()
    assert type(other).model_validate_json(other.model_dump_json()) == other


def test_content_ids_tell_fields_apart() -> None:
    assert content_id({"a": "xy", "b": ""}, "z") != content_id({"a": "x", "b": "y"}, "z")
    assert content_id({"a": "1", "b": "2"}, "z") == content_id({"b": "2", "a": "1"}, "z")
