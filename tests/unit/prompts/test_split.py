"""The leak-free split. Invariant 5."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.errors import UserError
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.similarity import NORMALISATION
from paft_ray.prompts.split import leakage_report, near, near_held_out, split_by_cluster, with_held_out
from paft_ray.prompts.template import PromptTemplate


def entry(text: str) -> Entry:
    return Entry(template=PromptTemplate(text=text))


def wording(number: int, copy: str = "") -> Entry:
    """Wordings of different numbers share the field alone; copies of one number are near-duplicates."""
    name = "abcdefghijklmnopqrstuvwxyz"[number % 26] + "abcdefghijklmnopqrstuvwxyz"[number // 26]
    return entry(
        " ".join(f"{word}{name}" for word in ["please", "read", "this", "review", "and", "say", "what", "you", "feel"])
        + f" {{text}}{copy}"
    )


def split(entries: list[Entry], *, seed: int = 0, min_held_out: int = 4) -> PromptSet:
    return split_by_cluster(
        entries,
        fraction=1 / 9,
        min_held_out=min_held_out,
        threshold=0.7,
        seed=seed,
        keep_in_train=entries[0].template.id,
    )


def test_the_split_is_eight_to_one_and_fixed_by_its_seed() -> None:
    entries = [wording(i) for i in range(90)]
    first = split(entries)
    assert (len(first.split("train")), len(first.split("held_out"))) == (80, 10)
    assert split(entries[::-1][-1:] + entries[1:][::-1]) == first
    assert split(entries, seed=1) != first


def test_a_cluster_never_stands_on_both_sides() -> None:
    entries = [wording(i, copy) for i in range(24) for copy in ("", "!", " now")]
    for seed in range(8):
        prompts = split(entries, seed=seed)
        sides: dict[int, set[str]] = {}
        for e in prompts.entries:
            sides.setdefault(e.cluster, set()).add(e.split)
        assert len(sides) == 24
        assert all(len(side) == 1 for side in sides.values())


def test_a_cluster_larger_than_the_share_is_held_out_only_where_nothing_else_fits() -> None:
    entries = [wording(0)] + [wording(1, "!" * i) for i in range(7)] + [wording(i) for i in range(2, 20)]
    for seed in range(8):
        held = split(entries, seed=seed).split("held_out")
        assert len(held) == 4
    few = [wording(0)] + [wording(n, mark) for n in range(1, 6) for mark in ("", "!", "?")]
    assert len(split(few).split("held_out")) == 6


def test_the_template_of_arm_sft_and_its_near_copies_stay_in_training() -> None:
    entries = [wording(0), wording(0, "!"), *(wording(i) for i in range(1, 9))]
    for seed in range(8):
        train = {t.id for t in split(entries, seed=seed).split("train").templates}
        assert {entries[0].template.id, entries[1].template.id} <= train


def test_near_candidates_of_given_held_out_templates_are_found() -> None:
    held_out = [wording(i) for i in range(3)]
    candidates = [wording(2, "!"), wording(3), wording(4)]
    assert near(candidates, held_out, 0.7) == {candidates[0].template.id}
    prompts = with_held_out(candidates[1:], held_out, threshold=0.7)
    assert (len(prompts.split("train")), len(prompts.split("held_out"))) == (2, 3)


def test_the_proof_names_the_closest_pair_the_normalisation_and_the_threshold() -> None:
    a, b = entry("please say whether you like this {text}"), entry("please say whether they hate that {text}")
    found = leakage_report(with_held_out([a], [b], threshold=0.7), 0.7)
    assert found == {
        "largest_similarity": 0.4,
        "pair": [a.template.id, b.template.id],
        "threshold": 0.7,
        "normalisation": NORMALISATION,
    }


def test_a_leak_is_an_error_and_not_a_silence() -> None:
    with pytest.raises(AssertionError, match="leak across the split"):
        leakage_report(with_held_out([wording(1)], [wording(1, "!")], threshold=0.7), 0.7)


def test_one_cluster_over_thirty_percent_is_refused_in_both_ways_of_splitting() -> None:
    entries = [wording(0, mark) for mark in ("", "!", "?", "...")] + [wording(i) for i in range(1, 7)]
    with pytest.raises(UserError, match="4 of 10 templates are near-copies of one another"):
        split(entries)
    with pytest.raises(UserError, match="4 of 10 templates are near-copies of one another"):
        with_held_out(entries, [wording(9)], threshold=0.7)


def test_too_few_templates_say_how_many_are_missing() -> None:
    with pytest.raises(
        UserError, match="8 distinct templates, but 12 held out and at least one to train on are needed: 5 missing"
    ):
        split([wording(i) for i in range(8)], min_held_out=12)


def framed(number: int, frame: str | None) -> Entry:
    return replace(wording(number), provenance={} if frame is None else {"frame": frame})


@given(
    st.lists(st.sampled_from(["form-0", "form-1", "role-0", "role-1", "role-2", None]), min_size=12, max_size=30),
    st.integers(0, 5),
)
def test_a_frame_of_the_grammar_never_stands_on_both_sides(frames: list[str | None], seed: int) -> None:
    entries = [framed(number, frame) for number, frame in enumerate([None, *frames])]
    try:
        prompts = split(entries, seed=seed, min_held_out=2)
    except UserError:  # two frames hold all templates
        return
    sides = [{e.provenance.get("frame") for e in prompts.split(side).entries} for side in ("train", "held_out")]
    assert not sides[0] & sides[1] - {None}
    assert len(prompts) == len(entries)
    leakage_report(prompts, 0.7)


def test_a_frame_on_both_sides_is_a_leak() -> None:
    sides = [framed(0, "form-0"), replace(framed(1, "form-0"), split="held_out")]
    with pytest.raises(AssertionError, match="one frame"):
        leakage_report(PromptSet.of(sides), 0.7)


def test_templates_of_a_held_out_frame_count_as_near() -> None:
    held_out = [framed(0, "form-0"), framed(1, None)]
    entries = [framed(2, "form-0"), framed(3, "form-1"), framed(4, None), wording(1, "!")]
    assert near_held_out(entries, held_out, 0.7) == {entries[0].template.id, entries[3].template.id}


def test_without_a_template_to_train_on_there_is_no_set() -> None:
    with pytest.raises(UserError, match="no template is left to train on"):
        with_held_out([], [wording(0)], threshold=0.7)
