"""Gate, similarity and split. Invariant 5."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.config import builtin
from paft_ray.errors import UserError
from paft_ray.generators.requests import grammar_share, request
from paft_ray.prompts.gate import gate, rejection
from paft_ray.prompts.prompt_set import Entry, read_templates
from paft_ray.prompts.similarity import clusters, shingles, similarity
from paft_ray.prompts.split import leakage_report, near, split_by_cluster, with_held_out
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import load_task

TASK = load_task("demo")
SEEDS = read_templates(builtin("tasks", "data", "demo", "seed_templates.jsonl"))
HELD_OUT = read_templates(builtin("tasks", "data", "demo", "held_out_templates.jsonl"))


def entry(text: str) -> Entry:
    return Entry(template=PromptTemplate(text=text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Is it good? {text", "unparsable"),
        ("Is this review positive?", "missing_field"),
        ("Is {text} by {author} positive?", "unknown_field"),
        ("Is {text} or {text} positive?", None),
        ("{text} positive", "leaks_answer"),
        ("Positive or negative: {text} -> negative", "leaks_answer"),
        ("Read {text}. Positive or negative: negative", "leaks_answer"),
        ("{text}\n1: positive, 2: negative", None),
        ("Judge {text} by {{review}}", "unfilled_slot"),
        ("Good or bad?<br>{text}", None),
        ("[INST] {text} good or bad? [/INST]", None),
        ("Read {text} and [describe the feeling in it].", "unfilled_slot"),
        ("Review: {text}\nAnswer: positive", "leaks_answer"),
        ("word " * 130 + "{text}", "too_long"),
        ("{text}", "too_short"),
        ("Is this review positive or negative? {text}", None),
    ],
)
def test_the_gate_names_its_reason(text: str, reason: str | None) -> None:
    assert rejection(PromptTemplate(text=text), TASK, max_words=120) == reason


def test_the_gate_repairs_literal_line_breaks_and_counts_everything() -> None:
    texts = ["Read this:\\n{text}\\nLabel:", "Read this:\n{text}\nLabel:", "no field here"]
    result = gate([PromptTemplate(text=t) for t in texts], TASK, max_words=120)
    assert result.kept == [PromptTemplate(text="Read this:\n{text}\nLabel:")]
    assert result.summary() == {
        "read": 3,
        "kept": 1,
        "repaired": {"literal_newline": 1},
        "rejected": {"duplicate": 1, "missing_field": 1},
    }


def test_shipped_templates_pass_the_gate_and_do_not_leak() -> None:
    assert gate([*SEEDS, *HELD_OUT], TASK, max_words=120).rejected == {}
    prompts = with_held_out([Entry(template=t) for t in SEEDS], [Entry(template=t) for t in HELD_OUT], threshold=0.7)
    assert len(prompts.split("held_out")) == 24
    assert leakage_report(prompts, 0.7)["largest_similarity"] <= 0.5


def test_similarity_of_short_texts_is_the_jaccard_index_of_their_words() -> None:
    a, b = shingles(PromptTemplate(text="one two three four")), shingles(PromptTemplate(text="One, two THREE five"))
    assert similarity(a, b) == pytest.approx(3 / 5)


def test_near_copies_share_a_cluster_through_others() -> None:
    texts = [
        "say if the text is positive or negative {text}",
        "Say if the text is positive or negative: {text}!",
        "Completely other words stand in here {text}",
    ]
    assert clusters([PromptTemplate(text=t) for t in texts], 0.7) == [0, 0, 1]


@given(seed=st.integers(0, 50), copies=st.lists(st.integers(0, 19), max_size=12))
def test_no_near_copy_crosses_the_split(seed: int, copies: list[int]) -> None:
    words = [
        f"w{chr(97 + i)}x alpha{chr(97 + i)} beta{chr(97 + i)} gamma{chr(97 + i)} delta{chr(97 + i)} {{text}}"
        for i in range(20)
    ]
    entries = [entry(w) for w in words] + [
        entry(words[i].upper().replace("{TEXT}", "{text}") + "!" * (j + 1)) for j, i in enumerate(copies[:5])
    ]
    prompts = split_by_cluster(
        entries, fraction=1 / 9, min_held_out=4, threshold=0.7, seed=seed, keep_in_train=entries[0].template.id
    )
    train, held_out = prompts.split("train"), prompts.split("held_out")
    assert len(held_out) >= 4
    assert entries[0].template.id in {t.id for t in train.templates}
    assert leakage_report(prompts, 0.7)["largest_similarity"] < 0.7
    assert not near(train.entries, held_out.entries, 0.7)


def test_one_cluster_over_the_limit_stops_with_a_message() -> None:
    entries = [entry(f"please say whether this text is positive or negative {'!' * i} {{text}}") for i in range(6)]
    with pytest.raises(UserError, match="near-copies of one another"):
        split_by_cluster(entries, fraction=0.1, min_held_out=2, threshold=0.7, seed=0, keep_in_train=None)


def test_too_few_templates_say_what_is_missing() -> None:
    with pytest.raises(UserError, match="12 held out and at least one"):
        split_by_cluster(
            [Entry(template=t) for t in SEEDS],
            fraction=1 / 9,
            min_held_out=12,
            threshold=0.7,
            seed=0,
            keep_in_train=SEEDS[0].id,
        )


def test_requests_are_half_few_shot_and_fixed_by_seed_and_number() -> None:
    made = [request(TASK, SEEDS, 3, 0, i) for i in range(20)]
    assert made == [request(TASK, SEEDS, 3, 0, i) for i in range(20)]
    assert [r.strategy for r in made].count("few_shot") == 10
    assert len({tuple(r.axes[0].items()) for r in made}) > 8


def test_the_grammar_share_counts_placeholders_and_labels() -> None:
    assert grammar_share(PromptTemplate(text="abc {text}"), TASK) == pytest.approx(0.6)
