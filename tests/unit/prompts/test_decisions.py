"""Decisions of people: a rejected template is never in the prompt set, an accepted one is unless the gate or a held-out
template forbids it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.errors import UserError
from paft_ray.prompts.decisions import REJECTED, Decision, Decisions, check_known, decide, mark, read_decisions
from paft_ray.prompts.gate import rejection
from paft_ray.prompts.prompt_set import Entry
from paft_ray.prompts.split import near
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import load_task

TASK = load_task("demo")
NAMES = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel")
TEXTS = [f"{name} {name}ish {name}er, negative or positive? {{text}}" for name in NAMES]
REFUSED = {
    "A label at the end of {text}\nAnswer: positive": "leaks_answer",
    "No field at all, negative or positive?": "missing_field",
    "Hidden \u202e sign, negative or positive: {text}": "hidden_character",
    "Fill in [describe the topic] for {text}": "unfilled_slot",
}
HELD_OUT = [Entry(template=PromptTemplate(text=TEXTS[0]), split="held_out")]
COPY = TEXTS[0].replace("?", " ?!")


def entry(text: str, **provenance: Any) -> Entry:
    return Entry(template=PromptTemplate(text=text), provenance=provenance)


def said(text: str, what: str, *, held: bool = False) -> Decision:
    template = PromptTemplate(text=text)
    return Decision.model_validate({"id": template.id, "decision": what, "text": text if held else None})


def decisions(*found: Decision) -> Decisions:
    return {each.id: each for each in found}


def outcome(given_: Decisions, entries: list[Entry], written: list[Entry]) -> tuple[set[str], dict[str, str]]:
    """(texts of the prompt set's candidates, text of an accepted template that stays out -> why)."""
    candidates = {each.template.id: each for each in [*entries, *written]}
    decided = decide(given_, entries, HELD_OUT, candidates, TASK, max_words=120, similarity=0.7)
    texts = {each.template.id: each.template.text for each in [*entries, *written]}
    return {each.template.text for each in decided.entries}, {
        texts.get(name, name): reason for name, reason in decided.left_out.items()
    }


def test_a_rejected_template_goes_and_an_accepted_one_comes() -> None:
    entries, written = [entry(TEXTS[1]), entry(TEXTS[2])], [entry(TEXTS[3], source="writer")]
    found = decisions(said(TEXTS[1], "reject"), said(TEXTS[3], "accept"), said(TEXTS[2], "accept"))
    assert outcome(found, entries, written) == ({TEXTS[2], TEXTS[3]}, {})
    decided = decide(found, entries, [], {e.template.id: e for e in written}, TASK, max_words=120, similarity=0.7)
    assert [e.provenance for e in decided.entries] == [{}, {"source": "writer", "decision": "accept"}]


def test_an_accepted_template_that_nobody_wrote_again_comes_from_its_line() -> None:
    found = decisions(said(TEXTS[3], "accept", held=True))
    decided = decide(found, [], [], {}, TASK, max_words=120, similarity=0.7)
    assert [e.template.text for e in decided.entries] == [TEXTS[3]]
    assert decided.entries[0].provenance == {"source": "decisions", "decision": "accept"}


@pytest.mark.parametrize(("text", "reason"), [*REFUSED.items(), (COPY, "near_held_out")])
def test_nobody_accepts_what_the_gate_refuses_or_what_is_near_a_held_out_template(text: str, reason: str) -> None:
    found = decisions(said(text, "accept", held=True))
    assert outcome(found, [entry(TEXTS[1])], [entry(text)]) == ({TEXTS[1]}, {text: reason})


def test_no_accepted_copy_of_a_held_out_template_comes_in_by_its_line() -> None:
    kept, left_out = outcome(decisions(said(COPY, "accept", held=True)), [], [])
    assert (kept, list(left_out.values())) == (set(), ["near_held_out"])


def test_no_accepted_template_of_a_held_out_frame_comes_in() -> None:
    held = [Entry.of_file(PromptTemplate(text=TEXTS[0], frame="f-1"), "held_out", "held_out")]
    template = PromptTemplate(text=TEXTS[1])
    row = {"id": template.id, "decision": "accept", "text": TEXTS[1]}
    found = decisions(Decision.model_validate({**row, "frame": "f-1"}))
    assert decide(found, [], held, {}, TASK, max_words=120, similarity=0.7).left_out == {template.id: "near_held_out"}
    found = decisions(Decision.model_validate({**row, "frame": "f-2"}))
    (kept,) = decide(found, [], held, {}, TASK, max_words=120, similarity=0.7).entries
    assert kept.provenance == {"source": "decisions", "frame": "f-2", "decision": "accept"}


@given(
    st.lists(st.sampled_from([*TEXTS[1:], *REFUSED, COPY]), unique=True),
    st.lists(st.sampled_from([*TEXTS[1:], *REFUSED, COPY]), unique=True),
    st.dictionaries(st.sampled_from([*TEXTS, *REFUSED, COPY]), st.sampled_from(["accept", "reject"])),
)
def test_decisions_hold_whatever_the_checks_said(good: list[str], bad: list[str], verdicts: dict[str, str]) -> None:
    entries = [entry(text) for text in good if text not in REFUSED and text != COPY]
    found = decisions(*(said(text, what, held=True) for text, what in verdicts.items()))
    kept, left_out = outcome(found, entries, [entry(text) for text in bad])
    assert not kept & {text for text, what in verdicts.items() if what == "reject"}
    for text in kept:
        assert rejection(PromptTemplate(text=text), TASK, max_words=120) is None
        assert not near([entry(text)], HELD_OUT, 0.7)
    accepted = {text for text, what in verdicts.items() if what == "accept"} - {TEXTS[0]}
    assert len(accepted - kept) == len(left_out)
    undecided = {e.template.text for e in entries} - set(verdicts)
    assert undecided <= kept <= undecided | accepted


def test_what_was_recorded_says_what_people_decided() -> None:
    rows = [{"rejected": reason} for reason in (None, "judge", "judge", None, "near_duplicate", "failed")]
    ids = [PromptTemplate(text=text).id for text in (*TEXTS[1:5], TEXTS[2])]
    found = decisions(said(TEXTS[1], "reject"), said(TEXTS[2], "accept"), said(TEXTS[3], "accept"))
    mark(rows, [*ids, None], found, {ids[2]: "leaks_answer"})
    assert [row["rejected"] for row in rows] == [REJECTED, None, "judge", None, "near_duplicate", "failed"]


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


LINE = {"id": PromptTemplate(text=TEXTS[1]).id, "decision": "accept", "text": TEXTS[1]}
OTHER = {"id": "0123456789abcdef", "decision": "reject"}


def test_a_file_of_decisions_is_read_with_and_without_texts(tmp_path: Path) -> None:
    system = PromptTemplate(text=TEXTS[2], system="Be brief.")
    path = write(
        tmp_path / "d.jsonl",
        LINE,
        "",
        OTHER,
        {"id": system.id, "decision": "accept", "text": system.text, "system": system.system},
    )
    found = read_decisions(path)
    assert [(each.decision, each.template) for each in found.values()] == [
        ("accept", PromptTemplate(text=TEXTS[1])),
        ("reject", None),
        ("accept", system),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not JSON"),
        ("[]", "the line: "),
        ({"id": "0123456789abcdef"}, "decision: Field required"),
        ({**OTHER, "decision": "maybe"}, "decision: Input should be 'accept' or 'reject'"),
        ({**OTHER, "id": "xyz"}, "id: String should match pattern"),
        ({**OTHER, "note": "x"}, "note: Extra inputs are not permitted"),
        ({**LINE, "text": 7}, "text: Input should be a valid string"),
        ({**LINE, "text": "another {text}"}, f"id: {LINE['id']} is not the content id of its text"),
        ({**LINE, "text": "half \ud83d {text}"}, "text holds half a character"),
        (OTHER, "template 0123456789abcdef comes twice"),
    ],
)
def test_a_line_that_is_none_is_named_with_its_number(tmp_path: Path, row: Any, message: str) -> None:
    path = write(tmp_path / "d.jsonl", OTHER, row)
    with pytest.raises(UserError) as caught:
        read_decisions(path)
    assert f"d.jsonl:2: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_or_decides_nothing_is_refused(tmp_path: Path) -> None:
    for path in (str(tmp_path), str(tmp_path / "none.jsonl"), write(tmp_path / "empty.jsonl", "")):
        with pytest.raises(UserError, match=r"prompts\.decisions=.*(cannot be read|no decisions)"):
            read_decisions(path)


def test_a_template_that_is_nowhere_is_unknown() -> None:
    found = decisions(said(TEXTS[1], "accept"), said(TEXTS[2], "reject"), said(TEXTS[3], "reject", held=True))
    check_known(found, [PromptTemplate(text=text).id for text in TEXTS[1:3]], "d.jsonl")
    with pytest.raises(UserError, match=rf"decisions=d\.jsonl: {PromptTemplate(text=TEXTS[2]).id}: no templates of"):
        check_known(found, [PromptTemplate(text=TEXTS[1]).id], "d.jsonl")
