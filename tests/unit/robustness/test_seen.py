"""What an arm was trained on is no test of it."""

from pathlib import Path

import pytest

from paft_ray.config import Config
from paft_ray.errors import UserError
from paft_ray.generators.grammar.compose import diverse_templates, ordered_frames
from paft_ray.generators.grammar.words import words_of
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.robustness.seen import Seen
from paft_ray.robustness.suites import make_suite
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example, Task, load_task
from tests.support import made_stage as stages

DEMO = load_task("demo")
OWN = Task(
    name="own",
    kind="choice",
    description="Decide whether a mail is spam.",
    fields={"mail": "the mail"},
    labels={"spam": "spam", "ham": "ham"},
)
CONFIG = Config(name="robustness", task="demo")
GIVEN = [
    PromptTemplate(text="Tell me about this film, please:\n{text}\nIs it positive or negative?"),
    PromptTemplate(text="{text}\nPositive or negative, in one word:"),
    PromptTemplate(text="REVIEW: {text}\nSENTIMENT (negative/positive):"),
]


def run_with(folder: Path, train: list[PromptTemplate], held_out: list[PromptTemplate], rows: list[Example]) -> Store:
    """A run of these templates; two rows are its test rows, the others it is trained on."""
    run = Store.at(str(folder))
    stages.prepared(run, {"train": rows[2:], "validation": rows[:2], "test": rows[:2]})
    entries = [Entry.of_file(template, "grammar") for template in train]
    entries += [Entry.of_file(template, "held_out", "held_out") for template in held_out]
    stages.synthesized(run, PromptSet.of(entries), sft_template=train[0].id)
    return run


def rows_of(field: str, *answers: str) -> list[Example]:
    return [Example(id=f"e{n}", fields={field: f"text {n}"}, answer=answer) for n, answer in enumerate(answers)]


FILMS = rows_of("text", *["positive", "negative"] * 3)
MAILS = rows_of("mail", *["spam", "ham"] * 3)


def test_a_run_s_held_out_templates_come_first(tmp_path: Path) -> None:
    grouped = PromptTemplate(text=GIVEN[1].text, group="short")
    first = run_with(tmp_path / "first", GIVEN[:1], [grouped, GIVEN[2]], FILMS)
    found = make_suite(["templates"], DEMO, CONFIG, Seen.of([None, first, first])).plain
    assert {(each.id, each.group) for each in found} == {(GIVEN[1].id, "short"), (GIVEN[2].id, None)}
    other = run_with(tmp_path / "other", [PromptTemplate(text=GIVEN[2].text + "!")], GIVEN[:1], FILMS)
    both = make_suite(["templates"], DEMO, CONFIG, Seen.of([first, other])).plain
    assert [each.id for each in both] == [GIVEN[1].id], "the other run was trained on a near-copy of the second one"


def test_a_run_of_another_task_leaves_the_task_its_own(tmp_path: Path) -> None:
    theirs = PromptTemplate(text="Is this spam or ham?\n{mail}")
    seen = Seen.of([run_with(tmp_path / "mails", [theirs], [theirs], MAILS)])
    assert len(make_suite(["templates"], DEMO, CONFIG, seen).plain) == 24


def test_composed_templates_are_of_no_frame_that_an_arm_was_trained_on(tmp_path: Path) -> None:
    trained = diverse_templates(OWN, 60, 0)
    seen = Seen.of([run_with(tmp_path / "own", trained, [], MAILS)])
    frames = {template.frame for template in trained}
    assert seen.frames == frames
    suite = make_suite(["all"], OWN, CONFIG, seen)
    assert len(suite.plain) == 24
    assert not frames & {template.frame for template in suite.plain}
    bases = {variant.base for variant in suite.variants if variant.axis in ("format", "options")}
    assert bases
    assert not {f"frame {frame}" for frame in frames} & bases
    unaware = make_suite(["templates"], OWN, CONFIG).plain
    assert {template.id for template in unaware} & {template.id for template in trained}, "else this shows nothing"


def test_where_every_frame_was_trained_on_templates_are_asked_for(tmp_path: Path) -> None:
    frames = ordered_frames(words_of(OWN), 0)
    trained = [PromptTemplate(text=f"{n}: {{mail}}", frame=frame.id) for n, frame in enumerate(frames)]
    seen = Seen.of([run_with(tmp_path / "own", trained, [], MAILS)])
    with pytest.raises(UserError, match=r"give a \.jsonl file with --suite FILE"):
        make_suite(["templates"], OWN, CONFIG, seen)


def test_rows_of_a_run_stand_in_and_those_it_was_trained_on_are_counted(tmp_path: Path) -> None:
    seen = Seen.of([run_with(tmp_path / "own", [PromptTemplate(text="{mail}")], [], MAILS)])
    assert seen.test_rows(OWN) == MAILS[:2]
    assert seen.test_rows(DEMO) == []
    assert seen.test_rows(OWN.model_copy(update={"labels": {"spam": "spam", "other": "other"}})) == []
    renamed = [Example(id="x", fields=MAILS[4].fields, answer=MAILS[4].answer), *MAILS[:1]]
    assert seen.num_trained(renamed) == 1


def test_what_a_run_no_longer_holds_counts_as_nothing(tmp_path: Path) -> None:
    seen = Seen.of([Store.at(str(tmp_path / "adapters-alone"))])
    assert (seen.test_rows(OWN), seen.num_trained(MAILS), seen.frames) == ([], 0, frozenset())
