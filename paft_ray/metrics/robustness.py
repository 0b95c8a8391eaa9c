"""Robustness figures of one arm over templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paft_ray.metrics.outcomes import MISSING, NOT_PARSED, ArmOutcomes

MIN_TEMPLATES = 12
"""With fewer templates figures of spread (std, quantiles, worst, sensitivity) say little about templates in general,
and are not given."""
MIN_TEMPLATES_INTERVAL = 8
"""With fewer templates a bootstrap interval can hold the truth clearly less often than it says (simulation in
EXPERIMENTS.md), and is not given."""
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_ROUNDING = 1e-9  # a mean of three 0.8 is 0.8000000000000002


@dataclass(frozen=True, kw_only=True)
class RobustnessMetrics:
    """Robustness figures of one arm; accuracies in [0, 1]."""

    mean: float
    """Mean over templates of the accuracy."""
    std: float | None
    """Standard deviation over templates (ddof 1) of the accuracy averaged over seeds."""
    std_noise_corrected: float | None
    """The same with binomial noise removed; see `noise_corrected_std`."""
    quantiles: Mapping[str, float | None]
    """Quantile of the accuracy over templates (linear between order statistics), by level: "0.1", "0.25", "0.5",
    "0.75", "0.9"."""
    worst: float | None
    worst_shrunken: float | None
    """Accuracy of the worst template with most of its bad luck removed; see `worst_shrunken`."""
    best: float
    share_above: float
    """Fraction of templates with an accuracy above the threshold."""
    consistency: float | None
    """Fraction of template pairs that agree on the prediction, averaged over examples."""
    sensitivity: float | None
    """PromptSensiScore, 0 (no template matters) to about 0.5; needs right or wrong; see `sensitivity`."""
    parse_failure_rate: float | None
    num_templates: int
    num_examples: int
    num_seeds: int
    insufficient_data_reason: str | None
    """Why the figures of spread are None."""


def figures(arm: ArmOutcomes, *, threshold: float) -> RobustnessMetrics:
    """Robustness figures of an arm; below `MIN_TEMPLATES` templates those of spread are None, with the reason in
    `insufficient_data_reason`.

    Raises `ValueError` for a template without any outcome.
    """
    accuracy = arm.by_template
    missing = insufficient_data_reason(len(accuracy))
    return RobustnessMetrics(
        mean=float(accuracy.mean()),
        std=None if missing else float(accuracy.std(ddof=1)),
        std_noise_corrected=None if missing else noise_corrected_std(arm),
        quantiles={f"{level:g}": None if missing else float(np.quantile(accuracy, level)) for level in QUANTILES},
        worst=None if missing else float(accuracy.min()),
        worst_shrunken=None if missing else worst_shrunken(arm),
        best=float(accuracy.max()),
        share_above=float((accuracy > threshold + _ROUNDING).mean()),
        consistency=consistency(arm),
        sensitivity=None if missing else sensitivity(arm),
        parse_failure_rate=parse_failure_rate(arm),
        num_templates=len(arm.template_ids),
        num_examples=len(arm.example_ids),
        num_seeds=len(arm.seeds),
        insufficient_data_reason=missing,
    )


def insufficient_data_reason(num_templates: int, minimum: int = MIN_TEMPLATES) -> str | None:
    """Why figures that need `minimum` templates (default: those of spread) are refused, or None where there are
    enough."""
    return None if num_templates >= minimum else f"only {num_templates} templates, at least {minimum} are needed"


def noise_corrected_std(arm: ArmOutcomes) -> float | None:
    """sqrt(max(0, variance over templates - mean noise variance)): the spread an endless test set would show. None
    below two examples.

    The noise of one template is the unbiased variance of its mean over n examples; with one seed that is p (1 - p) / (n
    - 1). Templates share their examples, so part of that noise moves all of them alike and never was in the spread: the
    figure is a lower bound.
    """
    per_example, present = by_example(arm)
    counts = present.sum(axis=1)
    if (counts < 2).any():
        return None
    mean = per_example.sum(axis=1) / counts
    squares = (((per_example - mean[:, None]) ** 2) * present).sum(axis=1)
    noise = (squares / (counts - 1) / counts).mean()
    return float(np.sqrt(max(0.0, arm.by_template.var(ddof=1) - noise)))


def worst_shrunken(arm: ArmOutcomes) -> float | None:
    """What the template that looks worst would reach on an endless test set: its accuracy, pulled toward the mean of
    all templates.

    The lowest of many noisy accuracies is low by luck as well (the winner's curse). Every template moves toward the
    mean by the fraction of the variance over templates that is noise: the positive-part James-Stein estimator toward
    the mean (Efron & Morris 1975), an empirical-Bayes estimate whose prior is fitted by moments; for independent
    answers it nears the posterior mean of a beta-binomial. The noise is the residual of a two-way analysis of variance
    (template + example), since what is hard about an example moves all templates alike. None below two examples or four
    templates. Raises `ValueError` for a template without any outcome.
    """
    per_example, present = by_example(arm)
    num_cells, num_templates, num_examples = present.sum(), len(present), present.any(axis=0).sum()
    freedom = num_cells - num_templates - num_examples + 1
    if num_templates < 4 or freedom < 1:
        return None
    per_template = per_example.sum(axis=1, keepdims=True) / present.sum(axis=1, keepdims=True)
    of_example = per_example.sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    residual = (per_example - per_template - of_example + per_example.sum() / num_cells) * present
    noise = (residual**2).sum() / freedom * (1 / present.sum(axis=1)).mean()
    accuracy = arm.by_template
    spread = accuracy.var(ddof=1)
    kept = max(0.0, 1 - (num_templates - 3) / (num_templates - 1) * noise / spread) if spread > 0 else 0.0
    return float(accuracy.mean() + kept * (accuracy.min() - accuracy.mean()))


def by_example(arm: ArmOutcomes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Accuracy over seeds of every (template, example), 0 where none was measured, and where one was. Both [templates,
    examples]."""
    seen = ~np.isnan(arm.correct)
    return np.nansum(arm.correct, axis=0) / np.maximum(seen.sum(axis=0), 1), np.asarray(seen.any(axis=0))


def consistency(arm: ArmOutcomes) -> float | None:
    """Fraction of template pairs with the same prediction, averaged over examples and seeds. None where predictions or
    pairs are missing.

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


def sensitivity(arm: ArmOutcomes) -> float | None:
    """PromptSensiScore (PSS): mean over template pairs of |correct_i - correct_j|, averaged over examples and
    seeds. Needs right or wrong: None for graded values, and where there is no pair.

    Zhuo et al. 2024, ProSA (arXiv 2410.12405). 0: no template changes whether an example is solved; at most about 0.5,
    where half the templates solve it. Of n outcomes with k right, k (n - k) pairs differ. Failed rows are left out.
    """
    if arm.is_graded:
        return None
    present = (~np.isnan(arm.correct)).sum(axis=1)
    right = np.nansum(arm.correct, axis=1)
    usable = present >= 2
    if not usable.any():
        return None
    pairs = present * (present - 1) / 2
    return float(((right * (present - right))[usable] / pairs[usable]).mean())


def parse_failure_rate(arm: ArmOutcomes) -> float | None:
    """Fraction of answers that could not be parsed, failed rows left out; None where predictions are not known."""
    if arm.predicted is None:
        return None
    present = arm.predicted != MISSING
    return float((arm.predicted == NOT_PARSED).sum() / max(int(present.sum()), 1))
