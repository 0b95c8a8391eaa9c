"""Robustness figures over templates and paired bootstrap intervals: pure functions of arrays of right and wrong answers.

Accuracies are fractions. Axes are always [seeds, templates, examples].
"""

from paft_ray.metrics.figures import MIN_TEMPLATES, Figures, consistency, figures, noise_corrected_std, parse_failure_rate, refusal
from paft_ray.metrics.intervals import Difference, bootstrap_interval, difference, verdict
from paft_ray.metrics.outcomes import ArmOutcomes, arms_from_table

__all__ = [
    "MIN_TEMPLATES",
    "ArmOutcomes",
    "Difference",
    "Figures",
    "arms_from_table",
    "bootstrap_interval",
    "consistency",
    "difference",
    "figures",
    "noise_corrected_std",
    "parse_failure_rate",
    "refusal",
    "verdict",
]
