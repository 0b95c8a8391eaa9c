import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.metrics import ArmOutcomes, fit_saturation, recommended_size
from tests.support.made_outcomes import arm

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
    assert found.asymptote_se is not None
    assert 0.002 < found.asymptote_se < 0.02


def test_the_standard_error_is_that_of_repeated_fits() -> None:
    rng = np.random.default_rng(1)
    fits = [
        fit_saturation({size: list(0.9 - 0.3 * size**-0.8 + rng.normal(0, 0.02, 8)) for size in SIZES})
        for _ in range(150)
    ]
    asymptotes = [fit.asymptote for fit in fits if fit.asymptote is not None]
    errors = [fit.asymptote_se for fit in fits if fit.asymptote_se is not None]
    assert len(errors) == len(asymptotes) > 140
    assert np.median(errors) == pytest.approx(np.std(asymptotes), rel=0.35)


def test_an_asymptote_that_is_not_known_to_five_points_is_refused() -> None:
    noisy = fit_saturation({1: [0.70, 0.76], 2: [0.76, 0.74], 4: [0.75, 0.80], 8: [0.77, 0.83]})
    assert not noisy.usable
    assert noisy.reason is not None
    assert "percentage points, at most 5 are allowed; train more sizes" in noisy.reason


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
    assert (found.asymptote_se, found.gain_se, found.exponent_se) == (None, None, None)


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


def size_of(*levels: float, noise: float = 0.0, rng: np.random.Generator | None = None) -> ArmOutcomes:
    """Outcomes of one size, a trial per level, on 12 templates x 50 examples."""
    rng = rng or np.random.default_rng(0)
    return arm(np.stack([np.full((12, 50), level) + rng.normal(0, noise, (12, 50)) for level in levels]))


def test_the_smallest_size_within_a_point_of_the_best_is_recommended() -> None:
    sizes = {1: size_of(0.65), 2: size_of(0.76), 4: size_of(0.841), 8: size_of(0.85), 16: size_of(0.85)}
    assert recommended_size(sizes) == (
        4,
        "4 templates reached 84.1 %, within 1.0 percentage points (the tolerance) of the best mean, 85.0 % at 8 "
        "templates. No size was trained twice, so the noise of a training is left out.",
    )


def test_the_noise_of_a_training_counts_for_a_best_size_of_one_trial_too() -> None:
    # pooled: deviations of 0.04 around 0.78 twice, one degree of freedom -> variance 0.0032; size 2 has two trials, the
    # best one: sqrt(0.0032 / 2 + 0.0032) = 0.069
    size, reason = recommended_size({1: size_of(0.7), 2: size_of(0.74, 0.82), 4: size_of(0.84)})
    assert size == 2, "one template is 14 points below"
    assert "within 6.9 percentage points (one standard error of the paired difference) of the best mean" in reason
    assert "No size" not in reason
    assert recommended_size({1: size_of(0.7), 2: size_of(0.78), 4: size_of(0.84)})[0] == 4


def test_what_templates_and_examples_share_does_not_count_as_noise() -> None:
    rng = np.random.default_rng(1)
    hard = rng.normal(0, 0.3, (12, 1)) + rng.normal(0, 0.3, 50)
    sizes = {size: arm(0.5 + level + hard + rng.normal(0, 0.01, (12, 50))) for size, level in ((1, 0.0), (2, 0.03))}
    assert recommended_size(sizes)[0] == 2, "three points show in pairs, whatever the templates do"
    apart = {size: arm(0.5 + level + rng.normal(0, 0.3, (12, 1)) + np.zeros(50)) for size, level in ((1, 0), (2, 0.03))}
    assert recommended_size(apart)[0] == 1, "templates that move each size its own way hide three points"


def test_the_best_size_itself_and_a_single_size_can_be_recommended() -> None:
    size, reason = recommended_size({1: size_of(0.7), 2: size_of(0.8), 4: size_of(0.9)})
    assert size == 4
    assert reason.startswith(
        "4 templates reached the best mean, 90.0 %, and every smaller size is more than 1.0 percentage points and one "
        "standard error of the difference below it."
    )
    assert recommended_size({1: size_of(0.7, 0.7)}) == (
        1,
        "1 template reached the best mean, 70.0 %, with the fewest templates measured.",
    )
    with pytest.raises(ValueError, match="at least one trial"):
        recommended_size({})
