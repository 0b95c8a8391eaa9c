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
"""With fewer templates an interval rests on too few draws of a template, and is not given."""
DECILE = 0.1
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_ROUNDING = 1e-9  # a mean of three 0.8 is 0.8000000000000002


@dataclass(frozen=True, kw_only=True)
class RobustnessMetrics:
    """Robustness figures of one arm; accuracies in [0, 1].

    Figures of spread are of each seed, a model that somebody could use, and then averaged over the seeds.
    """

    mean: float
    """Mean over templates of the accuracy."""
    std: float | None
    """Standard deviation over templates (ddof 1) of the accuracy."""
    std_noise_corrected: float | None
    """The same on an endless test set; see `noise_corrected_std`."""
    quantiles: Mapping[str, float | None]
    """Quantile of the accuracy over templates (linear between order statistics), by level: "0.1", "0.25", "0.5",
    "0.75", "0.9"."""
    decile: float | None
    """Lowest decile over templates, quantile 0.1: less a matter of luck than the worst."""
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
    accuracy = arm.by_seed
    missing = insufficient_data_reason(accuracy.shape[1])
    quantiles = {
        f"{level:g}": None if missing else float(np.quantile(accuracy, level, axis=1).mean()) for level in QUANTILES
    }
    return RobustnessMetrics(
        mean=float(accuracy.mean()),
        std=None if missing else float(accuracy.std(axis=1, ddof=1).mean()),
        std_noise_corrected=None if missing else noise_corrected_std(arm),
        quantiles=quantiles,
        decile=quantiles[f"{DECILE:g}"],
        worst=None if missing else float(accuracy.min(axis=1).mean()),
        worst_shrunken=None if missing else worst_shrunken(arm),
        best=float(accuracy.max(axis=1).mean()),
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
    """sqrt(max(0, variance over templates - noise of one accuracy)): the spread that an endless test set would show,
    averaged over seeds. None where the noise cannot be told, see `noise_by_seed`."""
    noise = noise_by_seed(arm)
    if noise is None:
        return None
    return float(np.sqrt(np.maximum(0.0, arm.by_seed.var(axis=1, ddof=1) - noise)).mean())


def worst_shrunken(arm: ArmOutcomes) -> float | None:
    """What the template that looks worst would reach on an endless test set: its accuracy, pulled toward the mean of
    all templates; averaged over seeds.

    The lowest of many noisy accuracies is low by luck as well (the winner's curse). Every template moves toward the
    mean by the fraction of the variance over templates that is noise: the positive-part James-Stein estimator toward
    the mean (Efron & Morris 1975), an empirical-Bayes estimate whose prior is fitted by moments; for independent
    answers it nears the posterior mean of a beta-binomial. Right on average where templates are exchangeable; where
    some fail outright it is some points too kind. None below four templates or where the noise cannot be told, see
    `noise_by_seed`. Raises `UserError` for a template without any outcome.
    """
    noise, accuracy = noise_by_seed(arm), arm.by_seed
    num_templates = accuracy.shape[1]
    if num_templates < 4 or noise is None:
        return None
    spread = accuracy.var(axis=1, ddof=1)
    share = np.divide(noise, spread, out=np.full_like(spread, np.inf), where=spread > 0)
    kept = np.maximum(0.0, 1 - (num_templates - 3) / (num_templates - 1) * share)
    mean = accuracy.mean(axis=1)
    return float((mean + kept * (accuracy.min(axis=1) - mean)).mean())


def noise_by_seed(arm: ArmOutcomes) -> NDArray[np.float64] | None:
    """Variance of a template's accuracy that is due to its test examples alone, per seed. Shape [seeds]. None where a
    seed has too few cells (below two examples).

    It is the residual of a two-way analysis of variance (template + example), since what is hard about an example moves
    all templates alike and is no spread.
    """
    present = ~np.isnan(arm.correct)
    values = np.nan_to_num(arm.correct)
    per_template, per_example = present.sum(axis=2, keepdims=True), present.sum(axis=1, keepdims=True)
    num_cells = present.sum(axis=(1, 2), keepdims=True)
    freedom = (num_cells - arm.correct.shape[1] - (per_example > 0).sum(axis=2, keepdims=True) + 1)[:, 0, 0]
    if (freedom < 1).any() or (per_template == 0).any():
        return None
    residual = present * (
        values
        - values.sum(axis=2, keepdims=True) / per_template
        - values.sum(axis=1, keepdims=True) / np.maximum(per_example, 1)
        + values.sum(axis=(1, 2), keepdims=True) / num_cells
    )
    return np.asarray((residual**2).sum(axis=(1, 2)) / freedom * (1 / per_template).mean(axis=(1, 2)))


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
