"""The area under the ROC curve against scikit-learn, and how often its interval holds the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from paft_ray.metrics.discrimination import Scored, auc, discrimination

SCORES = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0]), min_size=1, max_size=30)


@given(SCORES, SCORES)
def test_it_is_the_area_that_scikit_learn_finds(positives: list[float], negatives: list[float]) -> None:
    truth = [1] * len(positives) + [0] * len(negatives)
    assert auc(positives, negatives) == pytest.approx(roc_auc_score(truth, positives + negatives))


def test_what_could_not_be_told_counts_as_the_lowest() -> None:
    assert auc([float("nan")], [0.0]) == 0
    assert auc([0.0], [float("nan")]) == 1
    assert auc([float("inf")], [5.0]) == 1


def drawn(rng: np.random.Generator, num_texts: int, shifts: dict[str, float]) -> list[Scored]:
    """Texts with a positive and a negative of each kind; positives are `shift` standard deviations above them."""
    items = []
    for number in range(num_texts):
        items.append(Scored(score=rng.normal(), kind=None, question="q", text=str(number)))
        items += [
            Scored(score=rng.normal(-shift), kind=kind, question="q", text=str(number))
            for kind, shift in shifts.items()
        ]
    return items


def test_every_kind_counts_alike() -> None:
    items = drawn(np.random.default_rng(0), 50, {"far": 9.0, "none": 0.0})
    items += [Scored(score=-9.0, kind="far", question="q", text=f"more {i}") for i in range(1000)]
    found = discrimination(items, np.random.default_rng(1))
    assert found.by_kind["far"] > 0.99
    assert found.auc.value == pytest.approx((found.by_kind["far"] + found.by_kind["none"]) / 2)
    assert (found.num_positives, found.num_negatives) == (50, 1100)


def test_only_scores_of_one_question_are_compared() -> None:
    """A score that depends on the question alone knows nothing of the texts, however unequal the questions are."""
    items = [
        Scored(score=score, kind=kind, question=question, text=f"{question} {kind} {i}")
        for question, score, positives, negatives in (("a", 5.0, 60, 5), ("b", -5.0, 5, 60), ("c", 9.0, 0, 40))
        for kind, number in ((None, positives), ("other", negatives))
        for i in range(number)
    ]
    found = discrimination(items, np.random.default_rng(0))
    assert found is not None
    assert found.by_kind == {"other": 0.5}
    assert (found.auc.low, found.auc.value, found.auc.high) == (0.5, 0.5, 0.5)
    assert (found.num_positives, found.num_negatives) == (65, 65)


def test_questions_count_by_their_pairs() -> None:
    rng = np.random.default_rng(0)
    items = [
        Scored(score=rng.normal(shift * (kind is None)), kind=kind, question=question, text=f"{question} {kind} {i}")
        for question, shift, numbers in (("a", 2.0, (20, 9)), ("b", 0.5, (7, 30)))
        for kind, number in zip((None, "other"), numbers, strict=True)
        for i in range(number)
    ]
    found, expected, pairs = discrimination(items, rng), 0.0, 0
    for question in ("a", "b"):
        of_one = [item for item in items if item.question == question]
        positives = [item.score for item in of_one if item.kind is None]
        negatives = [item.score for item in of_one if item.kind is not None]
        expected += auc(positives, negatives) * len(positives) * len(negatives)
        pairs += len(positives) * len(negatives)
    assert found is not None
    assert found.auc.value == pytest.approx(expected / pairs)


def test_without_a_pair_of_one_question_nothing_is_known() -> None:
    items = [Scored(score=1.0, kind=kind, question=str(kind), text="t") for kind in (None, "other")]
    assert discrimination(items, np.random.default_rng(0)) is None


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    truth = (norm.cdf(1.5 / 2**0.5) + norm.cdf(1.0 / 2**0.5)) / 2
    worlds = [
        discrimination(drawn(np.random.default_rng(seed), 60, {"a": 1.5, "b": 1.0}), np.random.default_rng(seed)).auc
        for seed in range(200)
    ]
    covered = np.mean([each.low <= truth <= each.high for each in worlds])
    assert 0.85 <= covered <= 0.95


def test_one_generator_gives_one_interval() -> None:
    items = drawn(np.random.default_rng(0), 30, {"a": 1.0})
    assert discrimination(items, np.random.default_rng(5)) == discrimination(items, np.random.default_rng(5))
