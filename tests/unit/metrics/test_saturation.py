import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.metrics import fit_saturation, recommended_size

SIZES = (1, 2, 4, 8, 16)


@given(st.floats(0.6, 0.95), st.floats(0.1, 0.4), st.floats(0.3, 2.0))
def test_the_fit_finds_the_curve_that_made_the_points(asymptote: float, gain: float, exponent: float) -> None:
    found = fit_saturation({size: [asymptote - gain * size**-exponent] for size in SIZES})
    assert found.usable
    assert (found.asymptote, found.gain, found.exponent) == pytest.approx((asymptote, gain, exponent), abs=5e-3)
    assert found.residual_std == pytest.approx(0, abs=1e-3)
    assert found.at(32) == pytest.approx(asymptote - gain * 32**-exponent, abs=5e-3)


def test_the_residual_is_the_noise_of_the_trials() -> None:
    rng = np.random.default_rng(0)
    trials = {size: list(0.9 - 0.3 * size**-0.8 + rng.normal(0, 0.02, 40)) for size in SIZES}
    found = fit_saturation(trials)
    assert found.residual_std == pytest.approx(0.02, rel=0.15)
    assert found.asymptote == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(
    ("trials", "reason"),
    [
        ({1: [0.6, 0.7], 2: [0.7], 4: [0.8]}, "only 3 sizes, at least 4 are needed"),
        ({}, "only 0 sizes, at least 4 are needed"),
        ({1: [0.9], 2: [0.8], 4: [0.7], 8: [0.6]}, "accuracy does not grow with the number of templates"),
        ({1: [0.8], 2: [0.8], 4: [0.8], 8: [0.8]}, "accuracy does not grow with the number of templates"),
        ({1: [0.6], 2: [0.7], 4: [0.8], 8: [float("nan")]}, "the fit did not converge"),
    ],
)
def test_a_curve_that_says_nothing_is_not_usable(trials: dict[int, list[float]], reason: str) -> None:
    found = fit_saturation(trials)
    assert not found.usable
    assert found.reason is not None
    assert found.reason.startswith(f"not usable: {reason}")
    assert (found.asymptote, found.gain, found.exponent, found.residual_std) == (None, None, None, None)


@given(
    st.dictionaries(
        st.sampled_from((1, 2, 3, 4, 8, 16, 24)), st.lists(st.floats(0, 1), min_size=1, max_size=3), max_size=7
    )
)
def test_any_accuracies_give_a_fit_or_a_reason(trials: dict[int, list[float]]) -> None:
    found = fit_saturation(trials)
    if found.usable:
        assert found.asymptote is not None
        assert 0 <= found.asymptote <= 1
        assert found.at(1) < found.at(16)


def test_the_smallest_size_within_a_point_of_the_best_is_recommended() -> None:
    size, reason = recommended_size({1: [0.60, 0.70], 2: [0.75, 0.77], 4: [0.84, 0.842], 8: [0.85, 0.85], 16: [0.85]})
    assert size == 4
    assert (
        reason == "4 templates reached 84.1 %, within 1.0 percentage points (the tolerance) of the best mean, "
        "85.0 % at 8 templates."
    )


def test_one_standard_error_of_the_best_mean_is_allowed_where_it_is_larger() -> None:
    # trials of the best size: 0.82, 0.90 -> std 0.0566, standard error 0.04
    size, reason = recommended_size({1: [0.70, 0.90], 2: [0.83, 0.83], 4: [0.82, 0.90]})
    assert size == 2, "one template is 6 points below, and its own noise is no excuse"
    assert (
        "within 4.0 percentage points (one standard error of that mean over its trials) of the best mean, "
        "86.0 % at 4 templates" in reason
    )


def test_the_best_size_itself_and_a_single_size_can_be_recommended() -> None:
    size, reason = recommended_size({1: [0.7], 2: [0.8], 4: [0.9]})
    assert (size, reason) == (
        4,
        "4 templates reached the best mean, 90.0 %, and every smaller size is more than 1.0 percentage "
        "points below it.",
    )
    assert recommended_size({1: [0.7]}) == (
        1,
        "1 template reached the best mean, 70.0 %, with the fewest templates measured.",
    )
    with pytest.raises(ValueError, match="at least one trial"):
        recommended_size({})
