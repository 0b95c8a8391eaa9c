"""Accuracy against the number of training templates: a saturation curve, and the size to recommend."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

MIN_SIZES = 4
"""With fewer distinct sizes a curve of three parameters runs through the points and says nothing."""
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
    of examples. Usable with at least `MIN_SIZES` sizes and a fit that converged on a rising curve.
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
            (asymptote, gain, exponent), _ = curve_fit(_curve, sizes, accuracies, p0=start, bounds=bounds)
    except (RuntimeError, ValueError, OptimizeWarning) as error:  # no convergence, or accuracies that are no numbers
        return _unusable(f"the fit did not converge ({str(error).splitlines()[0]})")
    if gain < _MIN_GAIN:
        return _unusable("accuracy does not grow with the number of templates")
    residual = accuracies - _curve(sizes, asymptote, gain, exponent)
    return Saturation(
        asymptote=float(asymptote),
        gain=float(gain),
        exponent=float(exponent),
        residual_std=float(np.sqrt((residual**2).sum() / (len(sizes) - 3))),
        reason=None,
    )


def recommended_size(trials: Mapping[int, Sequence[float]], *, tolerance: float = _TOLERANCE) -> tuple[int, str]:
    """The smallest size not shown to be worse than the best one, and the reason in one sentence. `trials`: size -> mean
    accuracy of each trial.

    A size passes where its mean is at most `tolerance`, or one standard error of the best mean over its trials, below
    the best mean, whichever is larger: the one-standard-error rule (Breiman et al. 1984). The best size's own noise
    counts, so that a size cannot pass by being noisy itself. Raises `ValueError` without trials.
    """
    if not trials:
        raise ValueError("a size can only be recommended from at least one trial")
    means = {size: float(np.mean(trials[size])) for size in sorted(trials)}
    best = max(means, key=lambda size: means[size])
    noise = float(np.std(trials[best], ddof=1) / np.sqrt(len(trials[best]))) if len(trials[best]) > 1 else 0.0
    allowed = max(tolerance, noise)
    size = next(size for size, mean in means.items() if mean >= means[best] - allowed - _ROUNDING)
    best_said, allowed_said = f"the best mean, {100 * means[best]:.1f} %", f"{100 * allowed:.1f} percentage points"
    if size == best:
        smaller = (
            f", and every smaller size is more than {allowed_said} below it"
            if best != min(means)
            else ", with the fewest templates measured"
        )
        return size, f"{_templates(size)} reached {best_said}{smaller}."
    source = "one standard error of that mean over its trials" if noise > tolerance else "the tolerance"
    return (
        size,
        f"{_templates(size)} reached {100 * means[size]:.1f} %, within {allowed_said} ({source}) of {best_said} "
        f"at {_templates(best)}.",
    )


def _points(trials: Mapping[int, Sequence[float]]) -> tuple[list[int], list[float]]:
    pairs = [(size, accuracy) for size in sorted(trials) for accuracy in trials[size]]
    return [size for size, _ in pairs], [accuracy for _, accuracy in pairs]


def _curve(size: float | np.ndarray, asymptote: float, gain: float, exponent: float) -> np.ndarray:
    return np.asarray(asymptote - gain * np.asarray(size, dtype=np.float64) ** -exponent)


def _unusable(reason: str) -> Saturation:
    return Saturation(asymptote=None, gain=None, exponent=None, residual_std=None, reason=f"not usable: {reason}")


def _templates(size: int) -> str:
    return f"{size} template" if size == 1 else f"{size} templates"
