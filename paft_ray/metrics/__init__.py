"""Robustness figures over templates, paired intervals, saturation over sizes: pure functions of arrays of
scores (right and wrong answers, or values in between).

Accuracies are fractions. Axes are always [seeds, templates, examples].
"""

from paft_ray.metrics.bootstrap import (
    Interval,
    SpreadDifference,
    SpreadIntervals,
    spread_difference,
    spread_intervals,
)
from paft_ray.metrics.crossed import POWER, MeanEstimate, crossed_mean
from paft_ray.metrics.intervals import (
    MIN_SEEDS,
    PRIMARY,
    Difference,
    IntervalTarget,
    corrected,
    difference,
    gain_over_average,
    holm,
    mean_interval,
    verdict,
)
from paft_ray.metrics.outcomes import ArmOutcomes, Measure, arms_from_table, have_common_seeds, on_common_seeds
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
    "MIN_SEEDS",
    "MIN_SIZES",
    "MIN_TEMPLATES",
    "MIN_TEMPLATES_INTERVAL",
    "POWER",
    "PRIMARY",
    "QUANTILES",
    "ArmOutcomes",
    "Difference",
    "Interval",
    "IntervalTarget",
    "MeanEstimate",
    "Measure",
    "RobustnessMetrics",
    "Saturation",
    "SpreadDifference",
    "SpreadIntervals",
    "arms_from_table",
    "consistency",
    "corrected",
    "crossed_mean",
    "difference",
    "figures",
    "fit_saturation",
    "gain_over_average",
    "have_common_seeds",
    "holm",
    "insufficient_data_reason",
    "mean_interval",
    "noise_corrected_std",
    "on_common_seeds",
    "parse_failure_rate",
    "recommended_size",
    "sensitivity",
    "spread_difference",
    "spread_intervals",
    "verdict",
    "worst_shrunken",
]
