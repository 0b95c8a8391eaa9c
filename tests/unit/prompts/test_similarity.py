"""Near-duplicates: the exact comparison, and MinHash that may only propose."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.prompts import similarity
from paft_ray.prompts.similarity import Known, clusters, largest_similarity, shingles
from paft_ray.prompts.template import PromptTemplate

WORDS = st.lists(
    st.sampled_from(["one", "two", "three", "four", "five", "{six}", "seven", "eight", "nine"]), max_size=12
).map(" ".join)


def template(text: str) -> PromptTemplate:
    return PromptTemplate(text=text)


def near_copies(number: int) -> list[PromptTemplate]:
    """Pairs of long random wordings that differ in their last word, shuffled by a fixed seed."""
    made = random.Random(0)
    bases = [["".join(made.choices("abcdefghij", k=3)) for _ in range(30)] for _ in range(number // 2)]
    return [template(" ".join([*base, ending])) for base in bases for ending in ("x", "y")]


def similar(a: str, b: str) -> float:
    return similarity.similarity(shingles(template(a)), shingles(template(b)))


def test_case_digits_punctuation_and_literal_line_breaks_do_not_count() -> None:
    assert shingles(template("Read 1. the\\nTEXT {text}!")) == shingles(template("read the text -- {text}"))
    assert shingles(template("Read-the/text:{text}?")).words == {"read", "the", "text", "{text}"}
    assert shingles(template("{option_1}{option_2}")).words == {"{option_1}", "{option_2}"}, "a field is one word"


def test_letters_of_any_script_count() -> None:
    assert shingles(template("Ist es größer, été?")).words == {"ist", "es", "größer", "été"}
    decomposed = "e\u0301te\u0301"
    assert similar(decomposed, "été") == 1


def test_the_two_forms_of_the_demo_are_one_cluster() -> None:
    a, b = "positive/negative? {text}", "Negative? Positive? {text}"
    assert similar(a, b) == 1
    assert clusters([template(a), template(b)], 0.7) == [0, 0]


def test_texts_under_eight_words_are_compared_by_words_alone() -> None:
    assert clusters(
        [template("Read {text}"), template("read: {text}"), template("Say {text}"), template("?"), template("!")], 0.7
    ) == [0, 0, 1, 2, 2]
    assert shingles(template("a b c d e f g")).trigrams == frozenset()
    assert len(shingles(template("a b c d e f g h")).trigrams) == 6
    assert similar("a b c d e f g", "g f e d c b a h") == 7 / 8


def test_longer_texts_have_the_larger_of_both_similarities() -> None:
    assert similar("a b c d e f g h", "h g f e d c b a") == 1, "the same words in another order"
    run = "a a a b a b b b a a"  # all eight trigrams of two words
    assert similar(f"{run} c", f"{run} d") == 8 / 10 > 2 / 4


@given(WORDS, WORDS)
def test_similarity_is_symmetric_within_0_and_1_and_1_for_itself(a: str, b: str) -> None:
    assert 0 <= similar(a, b) == similar(b, a) <= 1
    assert similar(a, a) == 1


@given(st.lists(WORDS, min_size=1, max_size=8), st.lists(WORDS, min_size=1, max_size=8))
def test_the_largest_similarity_is_the_maximum_over_all_pairs(a: list[str], b: list[str]) -> None:
    left, right = [template(t) for t in a], [template(t) for t in b]
    assert largest_similarity(left, right)[0] == max(similar(x, y) for x in a for y in b)


@given(st.lists(WORDS, max_size=10), st.sampled_from([0.2, 0.5, 0.7, 1.0]))
def test_clusters_are_the_connected_parts_of_the_graph_of_near_pairs(texts: list[str], threshold: float) -> None:
    templates = [template(t) for t in texts]
    numbers = clusters(templates, threshold)
    expected = list(range(len(texts)))
    for _ in texts:
        for i, a in enumerate(texts):
            for j, b in enumerate(texts):
                if similar(a, b) >= threshold:
                    expected[i] = expected[j] = min(expected[i], expected[j])
    assert [numbers.index(n) for n in numbers] == expected


@pytest.mark.parametrize("threshold", [0.3, 0.7, 0.9])
def test_minhash_proposals_lead_to_the_same_clusters_as_all_pairs(
    monkeypatch: pytest.MonkeyPatch, threshold: float
) -> None:
    templates = near_copies(120)
    exact = clusters(templates, threshold)
    assert len(set(exact)) == 60
    monkeypatch.setattr(similarity, "EXACT_LIMIT", 10)
    assert clusters(templates, threshold) == exact


@given(st.lists(WORDS, max_size=12), st.sampled_from([0.3, 0.7, 1.0]))
def test_a_template_is_known_where_it_is_near_none_before_it(texts: list[str], threshold: float) -> None:
    known, kept = Known([], threshold), list[str]()
    for text in texts:
        near = any(similar(text, other) >= threshold for other in kept)
        assert (known.is_near(template(text)), known.add(template(text))) == (near, not near)
        kept += [] if near else [text]
