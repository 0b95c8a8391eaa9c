"""What an arm was trained on is no test of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from paft_ray.config import Config
from paft_ray.errors import UserError
from paft_ray.generators.grammar.compose import diverse_templates, ordered_frames
from paft_ray.generators.grammar.words import words_of
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.robustness.models import given_models
from paft_ray.robustness.seen import Seen
from paft_ray.robustness.suites import make_suite
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.artifacts import PROMPT_SET
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example, Task, load_task
from tests.support import made_stage as stages
from tests.support.finished_run import finished_run

DEMO = load_task("demo")
OWN = Task(
    name="own",
    kind="choice",
    description="Decide whether a mail is spam.",
    fields={"mail": "the mail"},
    labels={"spam": "spam", "ham": "ham"},
)
CONFIG = Config(name="robustness", task="demo")
HELD_OUT = [
    PromptTemplate(text=text, group="short" if number == 0 else None)
    for number, text in enumerate(
        (
            "{text}\nPositive or negative, in one word:",
            "REVIEW: {text}\nSENTIMENT (negative/positive):",
            "Did the writer enjoy it? {text} Reply positive if so, else negative.",
            "<review>{text}</review>\nWhich fits, positive or negative?",
            "My boss wants a label for this feedback: {text}\nShould I write positive or negative?",
            "Q: is the following praise (positive) or a complaint (negative)?\n{text}\nA:",
            "Classify. Input: {text} Allowed: negative, positive. Output:",
            "A viewer said: {text}\nThat was a positive/negative comment, namely",
            "Label the mood as positive or negative -> {text} ->",
        )
    )
]
TRAINED = PromptTemplate(text="Tell me about this film, please:\n{text}\nIs it positive or negative?")


def run_with(folder: Path, train: list[PromptTemplate], held_out: list[PromptTemplate], task: Task) -> Store:
    """A run of these templates; two rows are its test rows, the others it is trained on."""
    run = Store.at(str(folder))
    config = Config(name="run", task="demo", storage=str(folder.parent))
    replace(ResolvedRun.of(config, run), task=task).write()
    rows = rows_of(task)
    stages.prepared(run, {"train": rows[2:], "validation": rows[:2], "test": rows[:2]})
    entries = [Entry.of_file(template, "grammar") for template in train]
    entries += [Entry.of_file(template, "held_out", "held_out") for template in held_out]
    stages.synthesized(run, PromptSet.of(entries), sft_template=train[0].id)
    return run


def rows_of(task: Task) -> list[Example]:
    (field,) = task.fields
    return [Example(id=f"e{n}", fields={field: f"text {n}"}, answer=task.label_texts[n % 2]) for n in range(6)]


def of(*runs: Store) -> Seen:
    """Trained arms of these runs."""
    return Seen(runs=runs, trained=tuple(run.root for run in runs))


def plain(task: Task, seen: Seen) -> list[PromptTemplate]:
    return list(make_suite(["templates"], task, CONFIG, seen).plain)


def test_a_run_s_held_out_templates_come_first(tmp_path: Path) -> None:
    first = run_with(tmp_path / "first", [TRAINED], HELD_OUT, DEMO)
    assert {(each.id, each.group) for each in plain(DEMO, of(first))} == {(each.id, each.group) for each in HELD_OUT}
    copy = PromptTemplate(text=HELD_OUT[1].text + "!")
    other = run_with(tmp_path / "other", [copy], HELD_OUT[:1], DEMO)
    both = plain(DEMO, of(other, first))
    assert {each.id for each in both} == {each.id for each in HELD_OUT} - {HELD_OUT[1].id}, (
        "of the run that leaves more; the other one was trained on a near-copy of one"
    )
    few = run_with(tmp_path / "few", [copy, PromptTemplate(text=HELD_OUT[2].text + "!")], HELD_OUT[:1], DEMO)
    assert len(plain(DEMO, of(first, few))) == 24, "seven are too few for an interval, so the task's own"


@pytest.mark.parametrize("change", [{"labels": {"a": "good", "b": "bad"}}, {"description": "Say whether it is long."}])
def test_a_run_of_another_task_leaves_the_task_its_own(tmp_path: Path, change: dict) -> None:
    """Also where both have the same field."""
    seen = of(run_with(tmp_path / "run", [TRAINED], HELD_OUT, DEMO.model_copy(update=change)))
    assert len(plain(DEMO, seen)) == 24
    assert seen.test_rows(DEMO) == []


def test_composed_templates_are_of_no_frame_that_an_arm_was_trained_on(tmp_path: Path) -> None:
    trained = diverse_templates(OWN, 60, 0)
    seen = of(run_with(tmp_path / "own", trained, [], OWN))
    frames = {template.frame for template in trained}
    assert seen.frames == frames
    suite = make_suite(["all"], OWN, CONFIG, seen)
    assert len(suite.plain) == 24
    assert not frames & {template.frame for template in suite.plain}
    bases = {variant.base for variant in suite.variants if variant.axis in ("format", "options")}
    assert bases
    assert not {f"frame {frame}" for frame in frames} & bases
    unaware = plain(OWN, Seen())
    assert {template.id for template in unaware} & {template.id for template in trained}, "else this shows nothing"


def test_where_every_frame_was_trained_on_that_is_said(tmp_path: Path) -> None:
    frames = ordered_frames(words_of(OWN), 0)
    trained = [PromptTemplate(text=f"{n}: {{mail}}", frame=frame.id) for n, frame in enumerate(frames)]
    seen = of(run_with(tmp_path / "own", trained, [], OWN))
    with pytest.raises(UserError, match=r"give a \.jsonl file with --suite FILE"):
        plain(OWN, seen)
    file = tmp_path / "suite.jsonl"
    file.write_text('{"text": "Spam or ham?\\n{mail}"}\n')
    with pytest.raises(UserError, match="trained on every frame of the grammar"):
        make_suite([str(file), "format"], OWN, CONFIG, seen)


def test_rows_of_a_run_stand_in_and_those_it_was_trained_on_are_counted(tmp_path: Path) -> None:
    mails = rows_of(OWN)
    run = run_with(tmp_path / "own", [PromptTemplate(text="{mail}")], [], OWN)
    assert of(run).test_rows(OWN) == mails[:2]
    assert of(run).test_rows(DEMO) == []
    renamed = [Example(id="x", fields=mails[4].fields, answer=mails[4].answer), *mails[:1]]
    assert of(run).num_trained(renamed) == 1
    assert Seen(runs=(run,)).num_trained(renamed) == 0, "its base was trained on nothing"


def test_what_cannot_be_read_counts_as_nothing(tmp_path: Path) -> None:
    damaged = run_with(tmp_path / "damaged", diverse_templates(OWN, 5, 0), [], OWN)
    damaged.write_bytes(PROMPT_SET.path, b"torn")
    damaged.write_bytes("prepare/train.parquet", b"torn")
    for run in (damaged, Store.at(str(tmp_path / "adapters-alone"))):
        assert (of(run).num_trained(rows_of(OWN)), of(run).frames) == (0, frozenset())


def test_runs_and_those_of_which_a_trained_arm_is_measured(tmp_path: Path) -> None:
    runs = [finished_run(tmp_path / name) for name in ("a", "b")]
    names = [f"x={runs[0].root}:base", f"y={runs[1].root}:base", f"z={runs[1].root}:paft", "demo"]
    found = Seen.of(given_models(names, base=None, chat=False, config=CONFIG, task=DEMO))
    assert [run.root for run in found.runs] == [run.root for run in runs]
    assert found.trained == (runs[1].root,)
