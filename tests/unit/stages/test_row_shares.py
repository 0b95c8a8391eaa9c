"""Validation and test rows hold the answers in the proportions of the rows that they are drawn from, whatever prefix of
them is used (stage score takes one)."""

from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.config import DataConfig
from paft_ray.prompts.sampling import keyed_order
from paft_ray.stages.prepare import divide, in_proportion
from paft_ray.tasks.readers import examples_to_table
from paft_ray.tasks.task import Example, load_task

FIELDS = load_task("demo").fields
answers = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=60)


def order_of(given_answers: list[str]) -> list[int]:
    return in_proportion(pa.chunked_array([given_answers], pa.string())).tolist()


def table(given_answers: list[str], name: str = "r") -> pa.Table:
    return examples_to_table(
        [Example(id=f"{name}{i}", fields={"text": str(i)}, answer=a) for i, a in enumerate(given_answers)], FIELDS
    )


def chi_squared(counts: np.ndarray, sizes: np.ndarray) -> float:
    """Pearson's, against the shares of the sizes."""
    expected = counts.sum() * sizes / sizes.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@given(answers)
def test_the_order_is_a_permutation_that_keeps_rows_of_one_answer_in_theirs(found: list[str]) -> None:
    order = order_of(found)
    assert sorted(order) == list(range(len(found)))
    for answer in set(found):
        rows = [i for i in order if found[i] == answer]
        assert rows == sorted(rows)


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=80))
def test_of_two_answers_every_prefix_is_what_the_largest_remainder_gives(found: list[str]) -> None:
    order, share = order_of(found), found.count("a") / len(found)
    for n in range(1, len(found) + 1):
        assert abs([found[i] for i in order[:n]].count("a") - n * share) <= 0.5 + 1e-9


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=12))
def test_no_counts_fit_the_shares_of_the_rows_better_than_those_of_a_prefix(found: list[str]) -> None:
    names = sorted(set(found))
    sizes = np.array([found.count(name) for name in names])
    order = order_of(found)
    for n in range(1, len(found) + 1):
        drawn = [found[i] for i in order[:n]]
        ours = chi_squared(np.array([drawn.count(name) for name in names]), sizes)
        others = (np.array(c) for c in product(*(range(s + 1) for s in sizes)) if sum(c) == n)
        assert ours <= min(chi_squared(counts, sizes) for counts in others) + 1e-9


@given(found=answers, seed=st.integers(0, 5), n=st.integers(1, 60), m=st.integers(1, 60))
def test_fewer_rows_are_the_first_of_more_whatever_the_order_of_the_file(
    found: list[str], seed: int, n: int, m: int
) -> None:
    fewer, more = sorted((min(n, len(found)), min(m, len(found))))
    rows = {"train": table(["a"], "t"), "validation": table(["a"], "v"), "test": table(found)}
    turned = {**rows, "test": rows["test"].take(list(range(len(found)))[::-1])}
    small = divide(rows, DataConfig(num_test=fewer), seed, by_answer=True)["test"]
    large = divide(turned, DataConfig(num_test=more), seed, by_answer=True)["test"]
    assert small == large.slice(0, fewer)


@pytest.mark.parametrize("seed", range(3))
def test_rows_kept_back_from_training_have_its_proportions(seed: int) -> None:
    rows = table(["a"] * 600 + ["b"] * 250 + ["c"] * 150)
    parts = divide({"train": rows}, DataConfig(num_validation=100, num_test=40), seed, by_answer=True)
    assert [parts["test"]["answer"].to_pylist().count(x) for x in "abc"] == [24, 10, 6]
    assert [parts["validation"]["answer"].to_pylist().count(x) for x in "abc"] == [60, 25, 15]
    assert [parts["validation"].slice(0, 20)["answer"].to_pylist().count(x) for x in "abc"] == [12, 5, 3]
    assert len({name for part in parts.values() for name in part["id"].to_pylist()}) == 1000


def test_answers_that_are_no_labels_and_training_rows_are_drawn_without_regard_to_them() -> None:
    rows = table(["same"] * 30 + ["other"] * 70)
    keyed = rows.take(keyed_order(rows["id"].to_pylist(), 4, "rows train"))
    free = divide({"train": rows}, DataConfig(num_train=20, num_validation=10, num_test=7), 4, by_answer=False)
    assert free == {"test": keyed.slice(0, 7), "validation": keyed.slice(7, 10), "train": keyed.slice(17, 20)}
    labeled = divide({"train": rows}, DataConfig(num_train=20, num_validation=10, num_test=7), 4, by_answer=True)
    taken = {i for name in ("test", "validation") for i in labeled[name]["id"].to_pylist()}
    left = [i for i in keyed["id"].to_pylist() if i not in taken]
    assert labeled["train"]["id"].to_pylist() == left[:20]
