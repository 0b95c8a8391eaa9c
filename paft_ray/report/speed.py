"""Tokens and time per answer, of right answers only: an arm that says nothing is quick, and no use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paft_ray.config import ReportConfig
from paft_ray.metrics import MIN_TEMPLATES_INTERVAL
from paft_ray.report.inputs import Measured

MIN_ROWS = 64
"""With fewer right answers nothing is said of tokens and time."""


def speeds(measured: Measured, config: ReportConfig, seed: int) -> dict[str, dict[str, Any]]:
    """Arm -> `tokens_per_answer` and `seconds_per_answer` over its right unconstrained answers, and `speed`: intervals,
    number of answers, and the reason where there is no figure."""
    found = {}
    for arm in pc.unique(measured.outcomes["arm"]).to_pylist():
        right = measured.outcomes.filter((pc.field("arm") == arm) & (pc.field("behavior") == 1))
        tokens = _of_rows(right, "num_tokens", config, seed)
        found[arm] = {
            "tokens_per_answer": tokens["value"],
            "seconds_per_answer": None,
            "speed": {"tokens": tokens, "seconds": _nothing(0, "not measured")},
        }
    return found


def _of_rows(right: pa.Table, column: str, config: ReportConfig, seed: int) -> dict[str, Any]:
    rows = right.filter(pc.is_valid(right[column]))
    templates, place = np.unique(rows["template_id"].to_numpy(zero_copy_only=False), return_inverse=True)
    if rows.num_rows < MIN_ROWS:
        return _nothing(rows.num_rows, f"{rows.num_rows} right answers, at least {MIN_ROWS} are needed")
    if len(templates) < MIN_TEMPLATES_INTERVAL:
        return _nothing(
            rows.num_rows,
            f"right answers under {len(templates)} templates, at least {MIN_TEMPLATES_INTERVAL} are needed",
        )
    values = rows[column].to_numpy().astype(np.float64)
    low, high = _interval(np.bincount(place, values), np.bincount(place), config, seed)
    return {"value": float(values.mean()), "low": low, "high": high, "num_rows": rows.num_rows, "reason": None}


def _interval(sums: Any, counts: Any, config: ReportConfig, seed: int) -> tuple[float, float]:
    """Percentile interval of the mean with templates resampled: answers under one template are of like length."""
    number = len(sums)
    weights = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=config.num_bootstrap)
    tail = (1 - config.confidence) / 2
    low, high = np.quantile((weights @ sums) / (weights @ counts), [tail, 1 - tail])
    return float(low), float(high)


def _nothing(num_rows: int, reason: str) -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "num_rows": num_rows, "reason": reason}
