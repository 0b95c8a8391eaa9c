"""The gate: what is repaired, kept and rejected, and why."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.errors import UserError
from paft_ray.prompts.gate import gate, rejection
from paft_ray.prompts.imports import import_templates
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task, load_task

TASK = load_task("demo")
PIQA = "{goal} {sol1} {sol2} "
PUBLISHED = Path(__file__).resolve().parents[4] / "shared" / "data" / "prompts"


def verdict(text: str, task: str = "demo", max_words: int = 120) -> str | None:
    return rejection(PromptTemplate(text=text), load_task(task), max_words=max_words)


@pytest.mark.parametrize(
    "text",
    [
        "Is it about [the topic at hand]? {text}",
        "The [feeling] is in {text}",
        "[Insert the review here]\n{text}",
        "Review: {text}\nAnswer: <your answer>",
        "Review: {text}\nAnswer: <label>",
        "Review: {text}\n(insert the label here)",
        "{text} ...",
        "…\n{text}\n…",
    ],
)
def test_slots_left_open_are_rejected(text: str) -> None:
    assert verdict(text) == "unfilled_slot"


@pytest.mark.parametrize(
    "text",
    [
        "Choose one of [positive, negative]: {text}",
        "Choose [negative/positive]. [{text}]",
        "[Review: {text}] Positive or negative?",
        "[Review]\n{text}\n[Answer]",
        "<review>{text}</review>\nPositive or negative?",
        '<review lang="en">{text}</review>\nPositive or negative?',
        "I <3 reviews. Is this one good? {text}",
        "Think... then say positive or negative: {text}",
        "(positive or negative) {text}",
        "{text}\nLabel:",
    ],
)
def test_brackets_tags_and_dots_that_are_wording_are_kept(text: str) -> None:
    assert verdict(text) is None


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Review: {text}\nAnswer: positive", "demo"),
        ("Review: {text}\nAnswer: **Negative**.", "demo"),
        ("{text}\nThe sentiment is positive", "demo"),
        ("{text} Positive or negative? Answer: negative", "demo"),
        ("{text}\nIs that positive or negative?\npositive", "demo"),
        (PIQA + "Answer: A", "piqa"),
        (PIQA + "\nThis is a test. Reply: (B)", "piqa"),
        ("{question}\nThe answer is #### 42", "gsm8k"),
    ],
)
def test_templates_that_end_by_stating_an_answer_are_rejected(text: str, task: str) -> None:
    assert verdict(text, task) == "leaks_answer"


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("{text}\nAnswer with one of: negative or positive", "demo"),
        ("{text}\nAnswer: negative/positive", "demo"),
        ("{text}\nChoose:\n- negative\n- positive", "demo"),
        ("{text}\n1: negative, 2: positive", "demo"),
        ("The answer is positive if the writer is happy. {text}", "demo"),
        ("Answer: A or B.\n" + PIQA, "piqa"),
        (PIQA + "Answer format: A/B", "piqa"),
        ("End with #### 42 or whatever the number is.\n{question}", "gsm8k"),
    ],
)
def test_templates_that_list_the_answers_are_kept(text: str, task: str) -> None:
    assert verdict(text, task) is None


def test_words_are_counted_without_the_fields() -> None:
    assert verdict("one two three {text}", max_words=3) is None
    assert verdict("one two three four {text}", max_words=3) == "too_long"
    assert verdict("{text}:") == "too_short"


def test_a_system_part_is_inspected_and_repaired_too() -> None:
    result = gate(
        [
            PromptTemplate(text="Good? {text}", system="Be [describe a role]"),
            PromptTemplate(text="Good? {text}", system="a\\nB "),
        ],
        TASK,
        max_words=9,
    )
    assert result.verdicts == ["unfilled_slot", None]
    assert result.kept[0].system == "a\nB"


def test_verdicts_follow_the_order_read_and_duplicates_count_after_the_repair() -> None:
    result = gate(["Good?\\n{text}", " Good?\n{text} ", "Good? {body}", "Good? {text}"], TASK, max_words=9)
    assert result.verdicts == [None, "duplicate", "missing_field", None]
    assert [t.text for t in result.kept] == ["Good?\n{text}", "Good? {text}"]
    assert result.summary() == {
        "read": 4,
        "kept": 2,
        "repaired": {"literal_newline": 1},
        "rejected": {"duplicate": 1, "missing_field": 1},
    }


@given(st.lists(st.text(alphabet="ab {}[]<>\\n.:text", max_size=40), max_size=12))
def test_every_template_read_is_kept_or_counted_and_what_is_kept_passes_again(texts: list[str]) -> None:
    result = gate(texts, TASK, max_words=20)
    assert len(texts) == len(result.kept) + sum(result.rejected.values())
    again = gate(result.kept, TASK, max_words=20)
    assert (again.kept, again.rejected, again.repaired) == (result.kept, {}, {})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "Good? {text}"}\n\n{"text": "Bad? {text}", "system": "Be brief."}\n'),
        ("a.json", '["Good? {text}", {"text": "Bad? {text}"}]'),
        ("a.txt", "Good? {text}\n\nBad?\\n{text}\n"),
    ],
)
def test_three_kinds_of_files_are_imported(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert len(import_templates([str(tmp_path / name)], TASK, 120).kept) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xml", "x", "unknown kind of file; allowed"),
        ("a.json", "[1", r"a\.json:1: not JSON"),
        ("a.json", "[1]", "no list of texts"),
        ("a.json", "3", "no list of texts"),
        ("a.txt", "", "no list of texts"),
        ("a.txt", b"\xff\xfe", "cannot be read"),
        ("a.jsonl", "{}", r"a\.jsonl:1: an object with the text `text`"),
    ],
)
def test_files_that_hold_no_templates_are_refused(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        import_templates([str(tmp_path / name)], TASK, 120)


@pytest.mark.parametrize(
    ("name", "kept", "rejected"),
    [
        ("hellaswag", 335, {}),
        ("piqa", 338, {"duplicate": 1}),
        ("race", 302, {"unfilled_slot": 21}),
        ("winogrande", 286, {"duplicate": 24}),
    ],
)
def test_the_published_sets_come_through_the_gate_as_counted_by_hand(
    name: str, kept: int, rejected: dict[str, int]
) -> None:
    path = PUBLISHED / f"{name}.jsonl"
    if not path.exists():
        pytest.skip("../shared is absent")
    result = import_templates([str(path)], load_task(name), 120)
    assert (len(result.kept), result.rejected) == (kept, rejected)
    literal = sum("\\n" in json.loads(line)["text"] for line in path.read_text().splitlines())
    assert 0 < result.repaired["literal_newline"] <= literal


@pytest.mark.parametrize(
    ("pattern", "text", "reason"),
    [
        ("([1-5])", "{text}\nRate the reply from 1 to 5.", None),
        (r"\b([A-D])\b", "{text}\nAnswer with A, B, C or D.", None),
        ("(.+)", "{text}\nWhat is the answer?", None),
        ("([1-5])", "{text}\nThe rating is 4.", "leaks_answer"),
        ("#### ([0-9]+)", "Solve {text}\n#### 42", "leaks_answer"),
        ("#### ([0-9]+)", "One: #### 7\nSolve {text}\n#### 42", "leaks_answer"),
        ("#### ([0-9]+)", "One: #### 7. Solve {text} #### 42", "leaks_answer"),
        ("([1-5])", "Rate {text} from 1 to 5. The rating is 4.", "leaks_answer"),
        ("([0-9]+)", "Solve in 3 steps: {text} The answer is 42.", "leaks_answer"),
        ("([0-9]+)", "Solve in 3 steps: {text} Answer from 0 to 10.", None),
    ],
)
def test_a_pattern_that_matches_at_the_end_is_an_answer_unless_it_names_choices(
    pattern: str, text: str, reason: str | None
) -> None:
    task = Task(name="own", kind="free", description="Rate a reply.", fields={"text": "the reply"}, pattern=pattern)
    assert rejection(PromptTemplate(text=text), task, max_words=120) == reason
