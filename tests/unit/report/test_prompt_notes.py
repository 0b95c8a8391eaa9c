"""What the report says about the prompt set, from what the stages' manifests hold."""

from typing import Any

import pytest

from paft_ray.report.prompt_notes import prompt_notes
from paft_ray.storage.quality import CandidateFound, Quality

COVERAGE = {"num_templates": 26, "num_clusters": 14, "mean_nearest": 0.624, "min_nearest": 0.3, "radius": 0.55}
BEST = {"best": "ab12", "best_probability": 0.314, "num_templates": 26, "num_examples": 40, "num_tied": 0}


def trained(sampling: Any) -> dict[str, Any]:
    return {"train": {"key": {"train": {"sampling": sampling}}}}


def test_a_run_of_an_earlier_version_has_no_such_figures() -> None:
    assert prompt_notes({}) == []
    assert prompt_notes({"synthesize": {"kept": 3}, "score": {"best": "ab12"}, **trained({"type": "every_k"})}) == []
    assert prompt_notes({"score": {"best": "ab12", "best_probability": 0.5}, **trained("per_example")}) == []


def test_coverage_is_said_as_far_as_it_is_known() -> None:
    (full,) = prompt_notes({"synthesize": {"coverage": COVERAGE}})
    assert full == (
        "26 training templates in 14 clusters of near-copies; the nearest other one is 0.62 away on average and at "
        "least 0.30 (distance: 1 − similarity of the words); candidates that were fit and not chosen are at most 0.55 "
        "from a chosen one."
    )
    one = {**COVERAGE, "num_templates": 1, "num_clusters": 1, "mean_nearest": None, "min_nearest": None, "radius": None}
    assert prompt_notes({"synthesize": {"coverage": one}}) == ["1 training templates in 1 clusters of near-copies."]


@pytest.mark.parametrize(
    ("over", "said"), [("cluster", "a cluster of near-copies first"), ("source", "a source first"), ("template", None)]
)
def test_what_was_drawn_first_is_said_where_it_was_no_template(over: str, said: str | None) -> None:
    notes = prompt_notes(trained({"type": "per_example", "over": over}))
    assert [said in note for note in notes if said] == ([True] if said else [])
    assert len(notes) == (said is not None)


def test_how_sure_the_best_template_is_is_said_and_what_told_equal_ones_apart() -> None:
    (sure,) = prompt_notes({"score": BEST})
    assert sure == (
        "The best-scored of 26 templates on 40 validation rows, ab12, is the best one with a probability of 31.4 % "
        "(bootstrap over rows)."
    )
    (tied,) = prompt_notes({"score": {**BEST, "num_tied": 2}})
    assert tied.endswith("; 2 others have its accuracy, told apart by log-probability, then by id.")


def test_what_a_person_accepted_is_said_to_be_used() -> None:
    """Also where no judge was trusted."""
    candidate = CandidateFound(id="a", generator="demo", passed=False, reason="no_trusted_signal", score=None)
    quality = Quality(candidates=(candidate,))
    counts: dict[str, Any] = {"accepted": 5, "rejected": 0, "of_models": 2, "left_out": {"x": "near_held_out"}}
    decided = {"synthesize": {"decisions": counts}}
    assert prompt_notes({}, quality)[-1].startswith("Model-written synthesis was not used: ")
    assert prompt_notes(decided, quality)[-1].endswith("was fit; of what a person accepted, 2 are used.")
    counts["of_models"] = 0  # templates of the grammar, or the user's own
    assert prompt_notes(decided, quality)[-1].startswith("Model-written synthesis was not used: ")
