"""Accuracy against the number of training templates: a saturation curve, and the size to recommend."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

from paft_ray.metrics.crossed import crossed_mean
from paft_ray.metrics.outcomes import ArmOutcomes, mean_over_seeds

MIN_SIZES = 4
"""With fewer distinct sizes a curve of three parameters runs through the points and says nothing."""
MAX_STANDARD_ERROR = 0.05
"""Of the asymptote: above it the curve says nothing of more templates."""
_TOLERANCE = 0.01
_ROUNDING = 1e-9
_MIN_GAIN = (
    1e-4  # accuracy that the curve must gain from one template to endless ones, for its exponent to mean anything
)


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """The curve asymptote - gain * size ** -exponent, fitted to the accuracies of all trials. All figures None where it
    is not usable."""

    asymptote: float | None
    """Accuracy at endless templates, in [0, 1]. Beyond the largest size measured it is extrapolated."""
    gain: float | None
    """Asymptote minus accuracy at one template."""
    exponent: float | None
    """How fast the curve flattens: each doubling of the size leaves 2 ** -exponent of what is missing."""
    asymptote_se: float | None
    """Standard error, from the covariance of the fit: of other trials under the same templates and examples."""
    gain_se: float | None
    exponent_se: float | None
    residual_std: float | None
    """Standard deviation of the trials around the curve, three degrees of freedom taken off."""
    reason: str | None
    """Why the fit is not usable; None where it is."""

    @property
    def usable(self) -> bool:
        """The curve may be drawn and its asymptote named."""
        return self.reason is None

    def at(self, size: float) -> float:
        """Accuracy on the curve at `size` templates. For usable fits only."""
        assert self.asymptote is not None
        assert self.gain is not None
        assert self.exponent is not None
        return float(_curve(size, self.asymptote, self.gain, self.exponent))


def fit_saturation(trials: Mapping[int, Sequence[float]]) -> Saturation:
    """The curve through `trials` (size -> mean accuracy of each trial of that size), by bounded least squares; never an
    exception.

    The power law toward an asymptote is the learning curve of Cortes et al. (1993), taken here over templates in place
    of examples. Usable with at least `MIN_SIZES` sizes and a fit that converged on a rising curve whose asymptote has a
    standard error of at most `MAX_STANDARD_ERROR`.
    """
    sizes, accuracies = (np.array(axis, dtype=np.float64) for axis in _points(trials))
    if (distinct := len(np.unique(sizes))) < MIN_SIZES:
        return _unusable(f"only {distinct} sizes, at least {MIN_SIZES} are needed")
    low, high = accuracies[sizes == sizes.min()].mean(), accuracies[sizes == sizes.max()].mean()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", OptimizeWarning)
            start, bounds = (
                (np.clip(high, 0.01, 0.99), np.clip(high - low, -0.9, 0.9), 0.7),
                ((0.0, -1.0, 0.01), (1.0, 1.0, 10.0)),
            )
            (asymptote, gain, exponent), covariance = curve_fit(_curve, sizes, accuracies, p0=start, bounds=bounds)
    except (RuntimeError, ValueError, OptimizeWarning) as error:  # no convergence, or accuracies that are no numbers
        return _unusable(f"the fit did not converge ({str(error).splitlines()[0]})")
    if gain < _MIN_GAIN:
        return _unusable("accuracy does not grow with the number of templates")
    errors = np.sqrt(np.diag(covariance))
    if not errors[0] <= MAX_STANDARD_ERROR:
        return _unusable(
            f"the asymptote has a standard error of {100 * errors[0]:.1f} percentage points, at most "
            f"{100 * MAX_STANDARD_ERROR:g} are allowed; train more sizes or repeat them with other seeds"
        )
    residual = accuracies - _curve(sizes, asymptote, gain, exponent)
    return Saturation(
        asymptote=float(asymptote),
        gain=float(gain),
        exponent=float(exponent),
        asymptote_se=float(errors[0]),
        gain_se=float(errors[1]),
        exponent_se=float(errors[2]),
        residual_std=float(np.sqrt((residual**2).sum() / (len(sizes) - 3))),
        reason=None,
    )


def recommended_size(arms: Mapping[int, ArmOutcomes], *, tolerance: float = _TOLERANCE) -> tuple[int, str]:
    """The smallest size not shown to be worse than the best one, and the reason in one sentence. `arms`: size ->
    outcomes, its trials as seeds, all on the same templates and examples.

    A size passes where its mean is at most `tolerance`, or one standard error of its difference from the best size,
    below the best mean, whichever is larger: the one-standard-error rule (Breiman et al. 1984) for pairs. The
    difference is paired over templates and examples (`crossed_mean`); to its variance comes that of a training, pooled
    over all sizes that were trained several times, for each side, so that neither a best size of one trial counts as
    certain nor a size passes by being noisier than the others. Raises `ValueError` without a trial.
    """
    if not arms:
        raise ValueError("a size can only be recommended from at least one trial")
    means = {size: float(arms[size].by_template.mean()) for size in sorted(arms)}
    best = max(means, key=lambda size: means[size])
    noise = _trial_variance(list(arms.values()))
    errors = {size: _paired_error(arms[size], arms[best], noise or 0.0) for size in means if size != best}
    passed = [size for size in errors if means[size] >= means[best] - max(tolerance, errors[size]) - _ROUNDING]
    size = min([*passed, best])
    best_said = f"the best mean, {100 * means[best]:.1f} %"
    unknown = "" if noise is not None else " No size was trained twice, so the noise of a training is left out."
    if size == best:
        rule = f"more than {100 * tolerance:.1f} percentage points and one standard error of the difference below it"
        smaller = best != min(means)
        rest = f", and every smaller size is {rule}" if smaller else ", with the fewest templates measured"
        return size, f"{_templates(size)} reached {best_said}{rest}.{unknown}"
    allowed = f"{100 * max(tolerance, errors[size]):.1f} percentage points"
    source = "one standard error of the paired difference" if errors[size] > tolerance else "the tolerance"
    return (
        size,
        f"{_templates(size)} reached {100 * means[size]:.1f} %, within {allowed} ({source}) of {best_said} "
        f"at {_templates(best)}.{unknown}",
    )


def _trial_variance(arms: Sequence[ArmOutcomes]) -> float | None:
    """Variance of the mean of one trial around that of its size, pooled over sizes; None where none has two trials."""
    means = [arm.by_seed.mean(axis=1) for arm in arms]
    freedom = sum(len(trials) - 1 for trials in means)
    return sum(float(((trials - trials.mean()) ** 2).sum()) for trials in means) / freedom if freedom else None


def _paired_error(arm: ArmOutcomes, best: ArmOutcomes, noise: float) -> float:
    """Standard error of the difference of two sizes; that of trainings alone where every cell has the same one."""
    estimate = crossed_mean(mean_over_seeds(arm.correct) - mean_over_seeds(best.correct))
    grid = estimate.standard_error if estimate.has_variance else 0.0
    return float(np.sqrt(grid**2 + noise / len(arm.seeds) + noise / len(best.seeds)))


def _points(trials: Mapping[int, Sequence[float]]) -> tuple[list[int], list[float]]:
    pairs = [(size, accuracy) for size in sorted(trials) for accuracy in trials[size]]
    return [size for size, _ in pairs], [accuracy for _, accuracy in pairs]


def _curve(size: float | np.ndarray, asymptote: float, gain: float, exponent: float) -> np.ndarray:
    return np.asarray(asymptote - gain * np.asarray(size, dtype=np.float64) ** -exponent)


def _unusable(reason: str) -> Saturation:
    absent = dict.fromkeys(("asymptote", "gain", "exponent", "asymptote_se", "gain_se", "exponent_se", "residual_std"))
    return Saturation(**absent, reason=f"not usable: {reason}")


def _templates(size: int) -> str:
    return f"{size} template" if size == 1 else f"{size} templates"
