"""Every sentence of a report under each condition. The numbers are made up."""

from typing import Any

import pytest

from paft_ray.report.findings import calibration_verdict, findings


def values(**changes: Any) -> dict[str, Any]:
    """What `findings` reads of results.json: one comparison, of which nothing but the mean is known."""
    gap = {
        "first": "paft",
        "second": "sft",
        "mean": 0.2,
        "low": 0.1,
        "high": 0.3,
        "num_seeds": 3,
        "std_ratio": None,
        "decile": None,
        "measures": {},
    }
    arm = {"named_rate": None, "collapsed": [], "num_templates": 12, "num_seeds": 1}
    return {
        "primary": "paft-sft",
        "confidence": 0.95,
        "arms": {"sft": {**arm, **changes.pop("sft", {})}, "paft": {**arm, **changes.pop("paft", {})}},
        "groups": changes.pop("groups", {}),
        "calibration_verdict": changes.pop("calibration_verdict", None),
        "differences": {"paft-sft": {**gap, **changes}},
    }


def interval(mean: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {"mean": mean, "low": low, "high": high}


def test_what_was_not_measured_is_not_mentioned() -> None:
    assert findings(values()) == []
    alone = {**values(), "primary": None, "differences": {}}
    assert findings(alone) == []
    short = values(measures={"knowledge": interval(0.1, None, None)}, decile=None, std_ratio=None)
    assert findings(short) == [], "a difference without an interval says nothing here"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.05, 0.15, "the interval excludes zero"),
        (-0.05, 0.15, "a difference is not shown"),
        (0.0, 0.15, "a difference is not shown"),
        (-0.15, -0.05, "the interval excludes zero"),
    ],
)
def test_knowledge_and_lowest_decile_say_what_their_intervals_say(low: float, high: float, said: str) -> None:
    gap = interval((low + high) / 2, low, high)
    knowledge, decile, _ = findings(values(measures={"knowledge": gap}, decile=gap))
    assert knowledge.startswith("Knowledge (the answer constrained to the labels): paft − sft is ")
    assert decile.startswith("Lowest decile over templates: paft − sft is ")
    assert knowledge.endswith(f"; {said}.")
    assert decile.endswith(f"; {said}.")


@pytest.mark.parametrize(
    ("low", "high", "mean", "said"),
    [
        (0.3, 0.8, 0.2, "paft depends less on the template"),
        (0.3, 0.8, -0.2, "paft depends less on the template, at a lower mean"),
        (0.8, 1.2, 0.2, "a difference in spread is not shown"),
        (1.0, 1.2, 0.2, "a difference in spread is not shown"),
        (1.2, 1.9, -0.2, "paft depends more on the template"),
        (1.2, 1.9, 0.2, "paft depends more on the template, at a higher mean"),
    ],
)
def test_a_ratio_of_stds_says_who_depends_on_the_template(low: float, high: float, mean: float, said: str) -> None:
    ratio = {"value": (low + high) / 2, "low": low, "high": high}
    sentence, _ = findings(values(std_ratio=ratio, mean=mean))
    assert sentence == (
        f"Spread over templates: the std of paft is {(low + high) / 2:.2f} times that of sft "
        f"({low:.2f} to {high:.2f}); {said}."
    )


def test_brackets_are_explained_and_one_seed_is_for_these_weights() -> None:
    gap = {"measures": {"knowledge": interval(0.1, 0.05, 0.15)}}
    assert findings(values(**gap))[-1] == "Numbers in brackets are 95 % intervals, not corrected for their number."
    assert findings(values(**gap, num_seeds=1))[-1] == (
        "Numbers in brackets are 95 % intervals, not corrected for their number; with one seed they are for "
        "these weights and say nothing of other trainings."
    )


def test_groups_of_templates_stand_side_by_side() -> None:
    groups = {
        "plain": {"differences": {"paft-sft": interval(0.1, 0.05, 0.15)}},
        "terse": {"differences": {"paft-sft": interval(-0.02, None, None)}},
    }
    assert findings(values(groups=groups))[0] == (
        "paft − sft in each group of templates: plain +10.0 points (+5.0 to +15.0); terse −2.0 points."
    )
    assert findings(values(groups={"plain": groups["plain"]})) == [], "one group is all templates"


def test_labels_that_are_named_and_templates_that_collapse() -> None:
    collapsed = [{"template_id": "t1", "seed": seed, "answer": None, "fraction": 1.0} for seed in (0, 1)]
    named, found = findings(values(sft={"named_rate": 0.25, "collapsed": collapsed}, paft={"named_rate": 1.0}))
    assert named == "Answers that name a label, unconstrained: sft 25.0 %, paft 100.0 %."
    assert found == (
        "Templates under which an arm gives one answer, or none, on over 95 % of the rows: sft 1 of 12, paft 0 of 12."
    )
    _, found = findings(values(sft={"named_rate": 0.25, "collapsed": collapsed, "num_seeds": 2}))
    assert found.endswith("on over 95 % of the rows of some seed: sft 1 of 12, paft 0 of 12.")


@pytest.mark.parametrize(
    ("knowledge", "calibrated", "said"),
    [
        ((0.05, 0.15), (0.01, 0.12), "calibration alone does not close the gap of +10.0 points"),
        ((0.05, 0.15), (-0.04, 0.0), "calibration alone closes the gap of +10.0 points"),
        ((0.05, 0.15), (-0.04, 0.04), "it is not shown that a difference is left, nor that none is"),
        ((-0.05, 0.15), (0.01, 0.12), "so there is no gap shown to close"),
        ((0.05, 0.15), (None, None), "without intervals nothing is decided"),
    ],
)
def test_calibration_closes_a_gap_only_where_its_interval_says_so(
    knowledge: tuple[float, float], calibrated: tuple[float | None, float | None], said: str
) -> None:
    left = interval(0.02, *calibrated)
    sentence = calibration_verdict(interval(sum(knowledge) / 2, *knowledge), left, first="paft", second="sft")
    assert sentence.startswith("Calibration control (most probable label): paft − sft+cal is +2.0 points")
    assert said in sentence
    assert sentence in findings(values(calibration_verdict=sentence))
