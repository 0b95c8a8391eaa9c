"""Robustness figures of one arm over templates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paft_ray.metrics.outcomes import MISSING, NOT_PARSED, ArmOutcomes

MIN_TEMPLATES = 12
"""With fewer templates std, worst and intervals say little about templates in general, and are refused."""
_ROUNDING = 1e-9  # a mean of three 0.8 is 0.8000000000000002


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Robustness figures of one arm; accuracies in [0, 1]."""

    mean: float
    """Mean over templates of the accuracy."""
    std: float | None
    """Standard deviation over templates (ddof 1) of the accuracy averaged over seeds."""
    std_noise_corrected: float | None
    """The same with binomial noise taken out; see `noise_corrected_std`."""
    worst: float | None
    best: float
    share_above: float
    """Share of templates with an accuracy above the threshold."""
    consistency: float | None
    """Share of template pairs that agree on the prediction, averaged over examples."""
    parse_failure_rate: float | None
    num_templates: int
    num_examples: int
    num_seeds: int
    refused: str | None
    """Why std, worst and intervals are None."""


def figures(arm: ArmOutcomes, *, threshold: float) -> Figures:
    """Robustness figures of an arm; below `MIN_TEMPLATES` templates std and worst are None, with the reason in `refused`."""
    accuracy = arm.by_template
    refused = refusal(len(accuracy))
    return Figures(
        mean=float(accuracy.mean()),
        std=None if refused else float(accuracy.std(ddof=1)),
        std_noise_corrected=None if refused else noise_corrected_std(arm),
        worst=None if refused else float(accuracy.min()),
        best=float(accuracy.max()),
        share_above=float((accuracy > threshold + _ROUNDING).mean()),
        consistency=consistency(arm),
        parse_failure_rate=parse_failure_rate(arm),
        num_templates=len(arm.template_ids),
        num_examples=len(arm.example_ids),
        num_seeds=len(arm.seeds),
        refused=refused,
    )


def refusal(num_templates: int) -> str | None:
    """Why figures of spread are refused, or None where there are enough templates."""
    return None if num_templates >= MIN_TEMPLATES else f"only {num_templates} templates, at least {MIN_TEMPLATES} are needed"


def noise_corrected_std(arm: ArmOutcomes) -> float | None:
    """sqrt(max(0, variance over templates - mean noise variance)): the spread an endless test set would show. None below two examples.

    The noise of one template is the unbiased variance of its mean over n examples; with one seed that is p (1 - p) / (n - 1). Templates share
    their examples, so part of that noise moves all of them alike and never was in the spread: the figure is a lower bound.
    """
    seen = ~np.isnan(arm.correct)
    per_example = np.nansum(arm.correct, axis=0) / np.maximum(seen.sum(axis=0), 1)
    present = seen.any(axis=0)
    counts = present.sum(axis=1)
    if (counts < 2).any():
        return None
    mean = (per_example * present).sum(axis=1) / counts
    squares = (((per_example - mean[:, None]) ** 2) * present).sum(axis=1)
    noise = (squares / (counts - 1) / counts).mean()
    return float(np.sqrt(max(0.0, arm.by_template.var(ddof=1) - noise)))


def consistency(arm: ArmOutcomes) -> float | None:
    """Share of template pairs with the same prediction, averaged over examples and seeds. None where predictions or pairs are missing.

    An answer that could not be parsed agrees with nothing; a failed row is left out.
    """
    if arm.predicted is None:
        return None
    codes = np.moveaxis(arm.predicted, 1, 2).reshape(-1, len(arm.template_ids))
    present = (codes != MISSING).sum(axis=1)
    group = np.repeat(np.arange(len(codes)), codes.shape[1])
    parsed = codes.ravel() >= 0
    answers, counts = np.unique(np.stack([group[parsed], codes.ravel()[parsed]]), axis=1, return_counts=True)
    agreeing = np.bincount(answers[0], weights=counts * (counts - 1) / 2, minlength=len(codes))
    usable = present >= 2
    if not usable.any():
        return None
    return float((agreeing[usable] / (present * (present - 1) / 2)[usable]).mean())


def parse_failure_rate(arm: ArmOutcomes) -> float | None:
    """Share of answers that could not be parsed, failed rows left out; None where predictions are not known."""
    if arm.predicted is None:
        return None
    present = arm.predicted != MISSING
    return float((arm.predicted == NOT_PARSED).sum() / max(int(present.sum()), 1))
