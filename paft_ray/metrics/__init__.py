"""Robustness figures over templates, paired bootstrap intervals, saturation over sizes: pure functions of arrays of
scores (right and wrong answers, or values in between).

Accuracies are fractions. Axes are always [seeds, templates, examples].
"""

from paft_ray.metrics.intervals import (
    POWER,
    Difference,
    bootstrap_interval,
    bootstrap_means,
    corrected,
    difference,
    holm,
    mean_interval,
    verdict,
)
from paft_ray.metrics.outcomes import ArmOutcomes, Measure, arms_from_table
from paft_ray.metrics.robustness import (
    MIN_TEMPLATES,
    MIN_TEMPLATES_INTERVAL,
    QUANTILES,
    RobustnessMetrics,
    consistency,
    figures,
    insufficient_data_reason,
    noise_corrected_std,
    parse_failure_rate,
    sensitivity,
    worst_shrunken,
)
from paft_ray.metrics.saturation import MIN_SIZES, Saturation, fit_saturation, recommended_size

__all__ = [
    "MIN_SIZES",
    "MIN_TEMPLATES",
    "MIN_TEMPLATES_INTERVAL",
    "POWER",
    "QUANTILES",
    "ArmOutcomes",
    "Difference",
    "Measure",
    "RobustnessMetrics",
    "Saturation",
    "arms_from_table",
    "bootstrap_interval",
    "bootstrap_means",
    "consistency",
    "corrected",
    "difference",
    "figures",
    "fit_saturation",
    "holm",
    "insufficient_data_reason",
    "mean_interval",
    "noise_corrected_std",
    "parse_failure_rate",
    "recommended_size",
    "sensitivity",
    "verdict",
    "worst_shrunken",
]
