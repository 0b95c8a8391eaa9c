"""Variations: pure functions of (template, example, seed) that touch what they say and nothing else."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.template import PromptTemplate
from paft_ray.prompts.variations import noise, options, system
from paft_ray.prompts.variations.keyed import uniforms
from paft_ray.prompts.variations.variant import Variant, posed
from paft_ray.tasks.task import Example, load_task
from tests.unit.prompts.test_encode import WordTokenizer

DEMO, PIQA, RACE = load_task("demo"), load_task("piqa"), load_task("race")
TEMPLATE = PromptTemplate(text="Is the review below positive or negative?\nReview: {text}\nAnswer:")
ROW = Example(id="7", fields={"text": "A quiet, good film!"}, answer="positive")
LETTERED = PromptTemplate(text="Goal: {goal}\nA: {sol1}\nB: {sol2}\nAnswer with A or B.\nAnswer:")
CHOICE = Example(id="1", fields={"goal": "open a jar", "sol1": "twist it", "sol2": "eat it"}, answer="A")
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)


def level(found: list[Variant], start: str) -> Variant:
    return next(variant for variant in found if variant.level.startswith(start))


def rendered(variant: Variant, row: Example) -> str:
    cell = posed(variant, row)
    return cell.template.render(cell.example.fields)


def test_a_plain_template_is_asked_as_it_is() -> None:
    cell = posed(TEMPLATE, ROW)
    assert (cell.template, cell.example, cell.label("positive")) == (TEMPLATE, ROW, "positive")


def test_typos_in_the_template_leave_fields_labels_and_places() -> None:
    typos = level(noise.variants(DEMO, [TEMPLATE], 3), "typos in 5 % of the template")
    texts = {rendered(typos, Example(id=str(i), fields=ROW.fields, answer="positive")) for i in range(40)}
    assert len(texts) > 20, "each example meets its own slips"
    assert all("A quiet, good film!" in text and "positive" in text and "negative" in text for text in texts)
    cell = posed(typos, ROW)
    assert cell.example == ROW
    assert cell.template.fields == ("text",)


def test_noise_of_fields_leaves_the_template() -> None:
    found = noise.variants(DEMO, [TEMPLATE], 0)
    prompts = {variant.level: rendered(variant, ROW) for variant in found if "fields" in variant.level}
    assert len(prompts) == 4
    assert all(prompt.startswith("Is the review below positive or negative?\nReview: ") for prompt in prompts.values())
    assert "a quiet, good film!" in prompts["fields in small letters"]
    assert "A QUIET, GOOD FILM!" in prompts["fields in capitals"]
    assert "A quiet good film\n" in prompts["fields without punctuation"]


LONG = Example(
    id="8",
    fields={"text": "the actors are wonderful, the story is not, and the music is forgettable"},
    answer="negative",
)


def test_golden_noise() -> None:
    """What a release has drawn once it draws for ever: results are compared over versions."""
    found = noise.variants(DEMO, [TEMPLATE], 0)
    of_template, of_fields = level(found, "typos in 5 % of the template"), level(found, "typos in 5 % of the fields")
    assert of_template.id == "d0d55e58ddc935fa"
    head = "Is the review below positive or negative?"
    assert rendered(of_template, LONG) == f"{head}\nRevoew: {LONG.fields['text']}\nAnswr:"
    noisy = "the actors re wonderfil, the story is not, and thr music is forgetable"
    assert rendered(of_fields, LONG) == f"{head}\nReview: {noisy}\nAnswer:"
    assert round(uniforms("a", 1)(), 6) == 0.608884


def test_golden_token_ids() -> None:
    """At the token boundary: the variant and its text, written by hand, have the same ids."""
    encoder = Encoder(DEMO, WordTokenizer())  # type: ignore[arg-type]
    upper = level(noise.variants(DEMO, [TEMPLATE], 0), "fields in capitals")
    cell = posed(upper, ROW)
    written = PromptTemplate(
        text="Is the review below positive or negative?\nReview: A QUIET, GOOD FILM!\nAnswer:{text}"
    )
    by_hand = encoder.encode(written, Example(id="", fields={"text": ""}, answer="positive"))
    assert encoder.encode(cell.template, cell.example).prompt_ids == by_hand.prompt_ids


@given(TEXTS, st.integers(0, 2**31))
def test_the_same_key_gives_the_same_noise_and_no_field_is_lost(text: str, seed: int) -> None:
    row = Example(id="x", fields={"text": text}, answer="positive")
    for variant in noise.variants(DEMO, [TEMPLATE], seed):
        one, other = posed(variant, row), posed(variant, row)
        assert (one.template.text, one.example) == (other.template.text, other.example)
        assert one.example.answer == "positive"
        assert set(one.example.fields) == {"text"}


def test_slips_are_as_frequent_as_stated() -> None:
    text = "letters " * 4000
    out = noise.typos(text, 0.05, uniforms("rate"))
    changed = len(re.sub(r"letters ", "", out))
    words = out.split()
    share = sum(word != "letters" for word in words) / 4000
    assert changed
    assert share == pytest.approx(1 - 0.95**7, abs=0.03)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("x = -3.5, y = 1,000; done!", "x = -3.5, y = 1,000; done"),
        ("It's a 'good' film.", "It's a good film"),
        ("At 10:30 (sharp) - or never?", "At 10:30 sharp or never"),
    ],
)
def test_punctuation_that_is_part_of_a_number_or_word_stays(text: str, bare: str) -> None:
    row = Example(id="1", fields={"text": text}, answer="positive")
    cell = posed(level(noise.variants(DEMO, [TEMPLATE], 0), "fields without punctuation"), row)
    assert cell.example.fields["text"] == bare


def test_labels_in_any_case_and_the_answer_s_format_stay() -> None:
    gsm8k = load_task("gsm8k")
    assert gsm8k.answer_format
    template = PromptTemplate(text=f"Solve the problem.\n{{question}}\n{gsm8k.answer_format}\nYES or No?")
    typos = level(noise.variants(gsm8k, [template], 0), "typos in 5 % of the template")
    rows = [Example(id=str(i), fields={"question": "q"}, answer="1") for i in range(30)]
    assert all(gsm8k.answer_format in rendered(typos, row) for row in rows)
    capital = PromptTemplate(text="POSITIVE or Negative? {text}")
    texts = {rendered(level(noise.variants(DEMO, [capital], 0), "typos in 5 % of the template"), LONG) for _ in "x"}
    assert all("POSITIVE" in text and "Negative" in text for text in texts)


def test_braces_stay_braces() -> None:
    template = PromptTemplate(text="Write {{so}}: {text}")
    assert "{so}" in rendered(level(noise.variants(DEMO, [template], 1), "fields in capitals"), ROW)
    typos = level(noise.variants(DEMO, [template], 1), "typos in 5 % of the template")
    assert all("{" in rendered(typos, Example(id=str(i), fields=ROW.fields, answer="positive")) for i in range(30))


def test_options_change_places_and_the_answer_moves_along() -> None:
    (moved, *_) = options.variants(PIQA, [LETTERED], 0)
    cell = posed(moved, CHOICE)
    assert cell.template.render(cell.example.fields).startswith("Goal: open a jar\nA: eat it\nB: twist it\n")
    assert cell.example.answer == "B"
    assert cell.label("B") == "A"
    assert cell.shown["A"] == "B"


def test_over_all_places_every_option_stands_behind_every_label() -> None:
    template = PromptTemplate(text="{article} {question}\nA: {A}\nB: {B}\nC: {C}\nD: {D}\nAnswer:")
    fields = {"article": "t", "question": "q", "A": "1", "B": "2", "C": "3", "D": "4"}
    row = Example(id="1", fields=fields, answer="C")
    cells = [posed(template, row)] + [
        posed(v, row) for v in options.variants(RACE, [template], 0) if v.level.startswith("options moved")
    ]
    for label in "ABCD":
        assert {cell.example.fields[label] for cell in cells} == {"1", "2", "3", "4"}
    assert all(cell.example.fields[cell.example.answer] == "3" for cell in cells)
    assert all(cell.label(cell.example.answer) == "C" for cell in cells)


def test_labels_are_written_in_other_ways_where_they_stand_before_options() -> None:
    texts = options.styles(PIQA.options, LETTERED)
    assert [re.findall(r"\n(.*?)\{sol1\}", text) for text in texts] == [["A) "], ["(A) "], ["A. "], ["[A] "]]
    assert all("Answer with A or B." in text for text in texts)
    assert options.styles(PIQA.options, PromptTemplate(text="{goal} {sol1} or {sol2}?")) == []
    assert options.variants(DEMO, [TEMPLATE], 0) == []


def test_system_parts_stand_in_for_the_template_s_own() -> None:
    found = system.variants(DEMO, [TEMPLATE], 0)
    assert [variant.system for variant in found][:2] == ["", "You are a helpful assistant."]
    assert len({variant.id for variant in found} | {TEMPLATE.id}) == len(found) + 1


def test_an_empty_system_part_is_written_into_a_chat() -> None:
    tokenizer = WordTokenizer()
    encoder = Encoder(DEMO, tokenizer, chat=True)  # type: ignore[arg-type]
    empty = system.variants(DEMO, [TEMPLATE], 0)[0]
    words = tokenizer.read(encoder.encode(empty, ROW).prompt_ids)
    assert words.count("<|start|>") == 3, "system, user, assistant"
    assert tokenizer.read(encoder.encode(TEMPLATE, ROW).prompt_ids).count("<|start|>") == 2


def test_ids_follow_what_is_asked() -> None:
    found = (
        noise.variants(DEMO, [TEMPLATE], 0) + noise.variants(DEMO, [TEMPLATE], 1) + system.variants(DEMO, [TEMPLATE], 0)
    )
    assert len({variant.id for variant in found}) == len(found)
