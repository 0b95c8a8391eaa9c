"""The global order over several epochs, workers and starts. Invariant 2."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from paft_ray.errors import UserError
from paft_ray.training.data_order import locate, num_steps, permute, plan, rank_slice, step_positions


@given(
    n=st.integers(1, 120),
    epochs=st.integers(1, 4),
    batch=st.sampled_from([2, 4, 8]),
    world=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_every_example_is_used_exactly_once_per_epoch_across_batches_that_straddle_epochs(
    n: int, epochs: int, batch: int, world: int, seed: int
) -> None:
    steps = num_steps(n, epochs, batch)
    positions = np.concatenate([step_positions(s, r, world, batch) for s in range(steps) for r in range(world)])
    assert np.array_equal(np.sort(positions), np.arange(steps * batch))
    assert 0 <= steps * batch - n * epochs < batch
    found, offsets, examples = locate(positions[positions < n * epochs], n, seed)
    assert Counter(zip(found.tolist(), examples.tolist(), strict=True)) == {
        (e, i): 1 for e in range(epochs) for i in range(n)
    }
    assert offsets.max() == n - 1


@given(batch=st.integers(1, 512), world=st.integers(1, 64))
def test_the_places_of_the_ranks_are_a_batch_in_shares_that_differ_by_one(batch: int, world: int) -> None:
    slices = [rank_slice(rank, world, batch) for rank in range(world)]
    assert [place for own in slices for place in own] == list(range(batch))
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


@given(n=st.integers(1, 500), start=st.integers(0, 15), seed=st.integers(0, 9))
def test_a_resume_meets_the_examples_that_were_still_to_come(n: int, start: int, seed: int) -> None:
    whole = locate(np.arange(20 * 8), n, seed)[2]
    rest = np.concatenate([locate(step_positions(s, 0, 1, 8), n, seed)[2] for s in range(start, 20)])
    assert np.array_equal(rest, whole[start * 8 :])


def test_the_order_is_the_same_on_every_machine_and_in_every_version() -> None:
    assert permute(np.arange(10), 10, 0, 0).tolist() == [3, 5, 8, 7, 6, 0, 1, 2, 9, 4]
    assert permute(np.arange(10), 10, 0, 1).tolist() == [5, 6, 7, 2, 9, 4, 1, 0, 3, 8]


def test_every_place_of_an_epoch_is_equally_likely_for_an_example() -> None:
    places = Counter(int(permute(np.array([0]), 8, seed, 0)[0]) for seed in range(4000))
    assert chisquare([places[i] for i in range(8)]).pvalue > 1e-3


@pytest.mark.parametrize(("epochs", "steps"), [(1, 7), (0.5, 4), (1.3, 9), (3, 19)])
def test_parts_of_epochs_round_up_to_whole_steps(epochs: float, steps: int) -> None:
    assert num_steps(100, epochs, 16) == steps


def test_less_than_a_row_is_refused() -> None:
    with pytest.raises(UserError, match=r"train.num_epochs=0.02: of 20 training rows that is less than one row"):
        plan(20, epochs=0.02, steps=None, global_batch=4)
    assert plan(20, epochs=0.05, steps=None, global_batch=4) == (1, 1)
