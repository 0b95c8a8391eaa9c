"""The group that a row of a template file names travels with its template, and is no part of what it says."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.cli.main import main
from paft_ray.config import Config
from paft_ray.errors import UserError
from paft_ray.prompts.gate import gate, repair
from paft_ray.prompts.imports import import_templates
from paft_ray.prompts.prompt_set import Entry, PromptSet, read_templates
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages import synthesize
from paft_ray.stages.user_templates import gated_templates
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task
from tests.support.resolved import resolved

TASK = load_task("demo")
ROWS = [
    {"text": "Say how the guest felt, positive or negative: {text}", "group": "plain"},
    {"text": "{text} Hm, good or bad? Type positive or negative", "group": "chat, small letters"},
    {"text": "Tone of the words above the line, negative or positive\n---\n{text}"},
]
names = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=40)


def write(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def groups(prompts: PromptSet) -> dict[str, str | None]:
    return {e.template.text: e.provenance.get("group") for e in prompts.entries}


EXPECTED = {row["text"]: row.get("group") for row in ROWS}


@given(names)
def test_a_group_is_no_part_of_the_templates_content(name: str) -> None:
    plain, grouped = PromptTemplate(text="A {text}"), PromptTemplate(text="A {text}", group=name)
    assert (plain.id, plain, hash(plain)) == (grouped.id, grouped, hash(grouped))
    assert repair(PromptTemplate(text="A\\nB {text}", group=name), escaped=True)[0].group == name


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_groups_are_read_and_pass_the_gate(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"t.{kind}"
    path.write_text(json.dumps(ROWS) if kind == "json" else "".join(json.dumps(row) + "\n" for row in ROWS))
    assert {t.text: t.group for t in import_templates([str(path)], TASK, 120).kept} == EXPECTED


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_imported_templates_keep_their_groups(tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"kept.{kind}"
    with pytest.raises(SystemExit) as ended:
        main(["prompts", "import", write(tmp_path / "t.jsonl", ROWS), "--task", "demo", "--out", str(out)])
    assert ended.value.code == 0
    assert {t.text: t.group for t in read_templates(out)} == EXPECTED


@pytest.mark.parametrize("name", ["", " plain", "plain\n", "a\nb", "x" * 41, "a\u202eb", "\u200b", "a\tb\n"])
def test_a_group_that_cannot_be_shown_is_refused_with_file_and_line(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "t.jsonl", [ROWS[0], {**ROWS[1], "group": name}])
    with pytest.raises(UserError, match=r"t\.jsonl:2: group .* is no short name; allowed: 1 to 40") as caught:
        read_templates(path)
    assert caught.value.args[0].isprintable()


def test_of_a_template_that_comes_twice_the_first_group_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [ROWS[1], ROWS[0], {**ROWS[1], "group": "later"}])
    config = Config(name="t", task="demo")
    assert [t.group for t in gated_templates(path, config, TASK)] == ["chat, small letters", "plain"]
    assert [t.group for t in gate(read_templates(path), TASK, max_words=120).kept] == ["chat, small letters", "plain"]


def test_a_prompt_set_holds_the_groups_of_held_out_and_of_seed_templates(tmp_path: Path) -> None:
    held_out = write(tmp_path / "h.jsonl", ROWS)
    seeds = write(tmp_path / "s.jsonl", [{"text": "Negative, positive, what is it? {text}", "group": "terse"}])
    prompts = {"seed_templates": seeds, "held_out_templates": held_out, "min_held_out": 2}
    config = Config(name="t", task="demo", prompts=prompts)
    run = Store.open(str(tmp_path), "t")
    synthesize.run(resolved(config, run))
    made = PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet"))
    assert groups(made.split("held_out")) == EXPECTED
    assert groups(made.split("train")) == {"Negative, positive, what is it? {text}": "terse"}
    assert json.loads(made.split("train").to_jsonl())["group"] == "terse"
    write(tmp_path / "h.jsonl", [{**ROWS[0], "group": "other"}, *ROWS[1:]])
    with pytest.raises(UserError, match=r"other settings \(templates\.groups"):
        synthesize.run(resolved(config, run))


def test_the_key_of_templates_without_groups_is_as_before(tmp_path: Path) -> None:
    held_out = write(tmp_path / "h.jsonl", [{"text": row["text"]} for row in ROWS])
    prompts = {"seed_templates": "builtin", "held_out_templates": held_out, "min_held_out": 2}
    run = Store.open(str(tmp_path), "t")
    synthesize.run(resolved(Config(name="t", task="demo", prompts=prompts), run))
    assert set(run.read_json("synthesize/manifest.json")["key"]["templates"]) == {"seed", "held_out"}
    assert all(
        e.provenance["source"] in ("seed", "held_out")
        for e in PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet")).entries
    )


def test_an_entry_of_a_file_names_its_source_and_its_group() -> None:
    entry = Entry.of_file(PromptTemplate(text="A {text}", group="plain"), "user", "held_out")
    assert (entry.split, entry.provenance) == ("held_out", {"source": "user", "group": "plain"})
    assert Entry.of_file(PromptTemplate(text="A {text}"), "user").provenance == {"source": "user"}
