"""Near-duplicates: the exact comparison, and MinHash that may only propose."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.prompts import similarity
from paft_ray.prompts.similarity import clusters, jaccard, largest_similarity, trigrams
from paft_ray.prompts.template import PromptTemplate

WORDS = st.lists(st.sampled_from(["one", "two", "three", "four", "five"]), max_size=8).map(" ".join)


def template(text: str) -> PromptTemplate:
    return PromptTemplate(text=text)


def near_copies(number: int) -> list[PromptTemplate]:
    """Pairs of long random wordings that differ in their last word, shuffled by a fixed seed."""
    made = random.Random(0)
    bases = [[made.choice("abcdefghijklmnopqrst") * made.randint(1, 6) for _ in range(30)] for _ in range(number // 2)]
    return [template(" ".join([*base, ending])) for base in bases for ending in ("x", "y")]


def test_case_digits_punctuation_and_literal_line_breaks_do_not_count() -> None:
    assert trigrams(template("Read 1. the\\nTEXT {text}!")) == trigrams(template("read the text -- {text}"))
    assert ("read", "the", "{text}") in trigrams(template("Read the: {text}"))


def test_letters_of_any_script_count() -> None:
    assert trigrams(template("Ist es größer, été?")) == {("ist", "es", "größer"), ("es", "größer", "été")}


def test_short_texts_are_compared_as_a_whole() -> None:
    assert clusters(
        [template("Read {text}"), template("read: {text}"), template("Say {text}"), template("?"), template("!")], 0.7
    ) == [0, 0, 1, 2, 2]


@given(WORDS, WORDS)
def test_similarity_is_symmetric_within_0_and_1_and_1_for_itself(a: str, b: str) -> None:
    left, right = trigrams(template(a)), trigrams(template(b))
    assert 0 <= jaccard(left, right) == jaccard(right, left) <= 1
    assert jaccard(left, left) == 1


@given(st.lists(WORDS, min_size=1, max_size=8), st.lists(WORDS, min_size=1, max_size=8))
def test_the_largest_similarity_is_the_maximum_over_all_pairs(a: list[str], b: list[str]) -> None:
    left, right = [template(t) for t in a], [template(t) for t in b]
    assert largest_similarity(left, right)[0] == max(jaccard(trigrams(x), trigrams(y)) for x in left for y in right)


@given(st.lists(WORDS, max_size=10), st.sampled_from([0.2, 0.5, 0.7, 1.0]))
def test_clusters_are_the_connected_parts_of_the_graph_of_near_pairs(texts: list[str], threshold: float) -> None:
    templates = [template(t) for t in texts]
    numbers = clusters(templates, threshold)
    expected = list(range(len(texts)))
    for _ in texts:
        for i, a in enumerate(templates):
            for j, b in enumerate(templates):
                if jaccard(trigrams(a), trigrams(b)) >= threshold:
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
