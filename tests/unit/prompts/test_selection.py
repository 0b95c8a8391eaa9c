"""Selection for diversity: a greedy k-center over the product's own similarity, and the figures of what it covers."""

import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.prompts.selection import coverage, diverse
from paft_ray.prompts.similarity import shingles, similarity
from paft_ray.prompts.template import PromptTemplate

TEXTS = st.lists(
    st.lists(
        st.sampled_from(["one", "two", "three", "four", "five", "{six}", "seven", "eight", "nine"]), max_size=12
    ).map(" ".join),
    unique=True,
    max_size=12,
)


def made(texts: list[str]) -> list[PromptTemplate]:
    return [PromptTemplate(text=text) for text in texts]


def distance(a: PromptTemplate, b: PromptTemplate) -> float:
    return 1 - similarity(shingles(a), shingles(b))


def gap(one: PromptTemplate, others: list[PromptTemplate]) -> float:
    """Distance to the nearest of the others."""
    return min((distance(one, other) for other in others), default=1.0)


@given(TEXTS, TEXTS, st.integers(0, 14))
def test_each_choice_is_the_farthest_from_all_before_it_and_ties_go_by_id(
    texts: list[str], before: list[str], num: int
) -> None:
    templates, start = made(texts), made(before)
    chosen = diverse(templates, num, start=start)
    assert len(chosen) == len(set(chosen)) == min(num, len(templates))
    for place, choice in enumerate(chosen):
        taken = start + [templates[i] for i in chosen[:place]]
        left = [t for i, t in enumerate(templates) if i not in chosen[:place]]
        assert templates[choice] == min(left, key=lambda t: (-gap(t, taken), t.id))


@given(TEXTS, TEXTS, st.integers(0, 14), st.randoms(use_true_random=False))
def test_the_order_of_the_files_is_no_input(
    texts: list[str], before: list[str], num: int, shuffle: random.Random
) -> None:
    templates, start = made(texts), made(before)
    wanted = [templates[i] for i in diverse(templates, num, start=start)]
    mixed, mixed_start = shuffle.sample(templates, len(templates)), shuffle.sample(start, len(start))
    assert [mixed[i] for i in diverse(mixed, num, start=mixed_start)] == wanted


@given(TEXTS, TEXTS)
def test_fewer_are_the_first_of_more_and_none_is_within_the_radius_of_another(
    texts: list[str], before: list[str]
) -> None:
    templates, start = made(texts), made(before)
    every = diverse(templates, len(templates), start=start)
    gaps = [gap(templates[i], start + [templates[j] for j in every[:n]]) for n, i in enumerate(every)]
    assert gaps == sorted(gaps, reverse=True)
    assert diverse(templates, len(templates) // 2, start=start) == every[: len(templates) // 2]


def test_copies_of_what_is_in_come_last() -> None:
    templates = made(["Read the review: {text}", "{text} Which?", "read THE review {text}!"])
    start = made(["Read the review {text}"])
    assert diverse(templates, 1, start=start) == [1]
    assert set(diverse(templates, 3, start=start)[1:]) == {0, 2}


def test_two_thousand_candidates_take_seconds() -> None:
    source = random.Random(0)
    words = ["".join(source.choices("abcdefghij", k=3)) for _ in range(400)]
    templates = made([" ".join(source.choices(words, k=source.randint(4, 40))) + " {text}" for _ in range(2000)])
    began = time.process_time()
    chosen = diverse(templates, 400, start=templates[:10])
    assert len(set(chosen)) == 400
    assert time.process_time() - began < 10


@given(TEXTS, TEXTS)
def test_the_figures_are_those_of_all_pairs(texts: list[str], others: list[str]) -> None:
    templates, candidates = made(texts), made(others)
    nearest = [gap(t, [o for o in templates if o is not t]) for t in templates] if len(templates) > 1 else []
    figures = coverage(templates, threshold=0.7, candidates=candidates)
    assert figures.num_templates == len(templates)
    assert figures.min_nearest == min(nearest, default=None)
    assert figures.mean_nearest == (pytest.approx(np.mean(nearest)) if nearest else None)
    radius = max((gap(c, templates) for c in candidates), default=None) if templates else None
    assert figures.radius == radius


def test_the_figures_of_a_small_set() -> None:
    figures = coverage(
        made(["a b c d", "a b c d e", "x y {z}"]), threshold=0.7, candidates=made(["a b c d", "p q", "x y"])
    )
    assert (figures.num_clusters, figures.radius) == (2, 1.0)
    assert figures.min_nearest == pytest.approx(0.2)
    assert figures.mean_nearest == pytest.approx((0.2 + 0.2 + 1) / 3)
