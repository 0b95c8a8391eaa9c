"""Draws: uniform, the same for ever, and apart from one another. Invariant 1."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from paft_ray.prompts.sampling import EveryK, PerExample, keyed_order


def test_draws_are_the_same_on_every_machine_and_in_every_version() -> None:
    assert [
        PerExample(seed=0).index(epoch=e, example_id="row-1", index_in_epoch=0, num_templates=100) for e in range(6)
    ] == [73, 32, 81, 39, 80, 5]
    assert [
        EveryK(seed=0, k=4).index(epoch=0, example_id="", index_in_epoch=i, num_templates=100) for i in range(0, 24, 4)
    ] == [29, 8, 57, 47, 46, 19]
    assert keyed_order(["a", "b", "c", "d", "e"], 0, "subset").tolist() == [1, 0, 2, 4, 3]


def test_draws_are_uniform_over_examples_and_windows_too() -> None:
    one = Counter(
        PerExample(seed=1).index(epoch=0, example_id=str(i), index_in_epoch=0, num_templates=16) for i in range(8000)
    )
    two = Counter(
        EveryK(seed=1, k=4).index(epoch=0, example_id="", index_in_epoch=4 * i, num_templates=16) for i in range(8000)
    )
    assert min(chisquare([c[i] for i in range(16)]).pvalue for c in (one, two)) > 1e-3


def test_draws_of_two_epochs_are_independent() -> None:
    draw = PerExample(seed=2)
    pairs = Counter(
        tuple(draw.index(epoch=e, example_id=str(i), index_in_epoch=0, num_templates=4) for e in (0, 1))
        for i in range(8000)
    )
    assert chisquare([pairs[a, b] for a in range(4) for b in range(4)]).pvalue > 1e-3


@given(st.integers(0, 10**6), st.integers(0, 100), st.integers(1, 64), st.integers(0, 10**6), st.integers(1, 1000))
def test_a_draw_of_every_k_depends_on_seed_epoch_and_window_alone(
    seed: int, epoch: int, k: int, place: int, n: int
) -> None:
    draw = EveryK(seed=seed, k=k)
    first = draw.index(epoch=epoch, example_id="a", index_in_epoch=place // k * k, num_templates=n)
    assert first == draw.index(epoch=epoch, example_id="b", index_in_epoch=place, num_templates=n)
    assert 0 <= first < n


@given(st.lists(st.text(max_size=5), unique=True, max_size=30), st.integers(0, 99))
def test_a_keyed_order_keeps_the_relative_order_of_what_stays(keys: list[str], seed: int) -> None:
    whole = [keys[i] for i in keyed_order(keys, seed, "p")]
    part = keys[::2]
    assert sorted(whole) == sorted(keys)
    assert [key for key in whole if key in set(part)] == [part[i] for i in keyed_order(part, seed, "p")]


def test_purposes_and_seeds_give_other_orders() -> None:
    keys = [str(i) for i in range(50)]
    orders = [keyed_order(keys, seed, purpose) for seed, purpose in ((0, "a"), (1, "a"), (0, "b"))]
    assert not any(np.array_equal(a, b) for a, b in zip(orders, orders[1:] + orders[:1], strict=True))
