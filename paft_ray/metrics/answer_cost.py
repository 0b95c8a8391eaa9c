"""What an unconstrained answer costs, over right answers only: a model that says nothing is fast and short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import sem, t

MIN_RIGHT = 64
"""Right answers from which on a mean of them is given."""
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class AnswerCost:
    """Means over the right answers of a sample with their t intervals at 95 %; None, with a reason, where there are too
    few."""

    tokens_per_answer: float | None = None
    """With the EOS token."""
    tokens_low: float | None = None
    tokens_high: float | None = None
    seconds_per_answer: float | None = None
    """From the start of the computation, with others in the same batch; comparable within one run only."""
    seconds_low: float | None = None
    seconds_high: float | None = None
    num_rows: int
    """Right answers."""
    num_asked: int
    """Answers of the sample."""
    reason: str | None = None
    """Why there are no means."""


def answer_cost(right: Sequence[bool], tokens: Sequence[int], seconds: Sequence[float]) -> AnswerCost:
    """Mean tokens and seconds of the right ones of these answers. `seconds`: NaN where the engine took no time; the
    mean is then None."""
    chosen = np.asarray(right, dtype=bool)
    num_right, num_asked = int(chosen.sum()), len(chosen)
    if num_right < MIN_RIGHT:
        reason = f"{num_right} of {num_asked} sampled answers are right; a mean of right answers needs {MIN_RIGHT}"
        return AnswerCost(num_rows=num_right, num_asked=num_asked, reason=reason)
    mean_tokens, mean_seconds = (
        _mean_interval(np.asarray(values, dtype=np.float64)[chosen]) for values in (tokens, seconds)
    )
    return AnswerCost(
        tokens_per_answer=mean_tokens[0],
        tokens_low=mean_tokens[1],
        tokens_high=mean_tokens[2],
        seconds_per_answer=mean_seconds[0],
        seconds_low=mean_seconds[1],
        seconds_high=mean_seconds[2],
        num_rows=num_right,
        num_asked=num_asked,
    )


def _mean_interval(values: NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
    """(mean, low, high) with a t interval; no costs are below 0. None for values that are not all known."""
    if np.isnan(values).any():
        return None, None, None
    mean = float(values.mean())
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * sem(values))
    return round(mean, 4), round(max(mean - half, 0.0), 4), round(mean + half, 4)
