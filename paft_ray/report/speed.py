"""Tokens and time per answer, of right answers only: an arm that says nothing is quick, and no use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paft_ray.report.inputs import Measured

_AMOUNTS = ("tokens", "seconds")


def speeds(measured: Measured) -> dict[str, dict[str, Any]]:
    """Arm -> `tokens_per_answer` and `seconds_per_answer` over its right unconstrained answers (None: not given), and
    `speed`: their intervals, over how many answers (`num_rows` of `num_asked`), the `reason` where there is none, and
    how many of those asked a label would have ended with another score (`behavior_misjudged`, `strict_misjudged`;
    None: not known).

    Of several seeds the figures are means, those of the intervals' ends too. A seed without a figure leaves the arm
    without one.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for model, row in measured.speed.items():
        found.setdefault(model.arm, []).append(row)
    return {arm: _of_seeds(found.get(arm, [])) for arm in measured.arms}


def _of_seeds(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    amounts = {name: _amount(seeds, name) for name in _AMOUNTS}
    reasons = [row["reason"] for row in seeds if row.get("reason")]
    return {
        **{f"{name}_per_answer": amount["value"] for name, amount in amounts.items()},
        "speed": {
            **amounts,
            "num_rows": sum(row.get("num_rows") or 0 for row in seeds),
            "num_asked": sum(row.get("num_asked") or 0 for row in seeds),
            **{name: _sum(seeds, name) for name in ("behavior_misjudged", "strict_misjudged")},
            "reason": reasons[0] if reasons else None if seeds else "not measured",
        },
    }


def _sum(seeds: Sequence[Mapping[str, Any]], name: str) -> int | None:
    counts = [row[name] for row in seeds if row.get(name) is not None]
    return sum(counts) if seeds and len(counts) == len(seeds) else None


def _amount(seeds: Sequence[Mapping[str, Any]], name: str) -> dict[str, float | None]:
    keys = {"value": f"{name}_per_answer", "low": f"{name}_low", "high": f"{name}_high"}
    if not seeds or any(row.get(key) is None for row in seeds for key in keys.values()):
        return dict.fromkeys(keys)
    return {end: float(np.mean([row[key] for row in seeds])) for end, key in keys.items()}
