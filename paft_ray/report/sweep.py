"""The result of a sweep over prompt-set sizes: sweep.json, sweep.md and the curve as SVG and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from paft_ray.artifacts import Run
from paft_ray.config import ReportConfig
from paft_ray.metrics import arms_from_table, bootstrap_interval, figures, refusal
from paft_ray.report.format import percent
from paft_ray.report.plots import sweep_plot


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training of the sweep, evaluated."""

    size: int
    """Number of training templates."""
    subset_seed: int
    """Which nested chain of subsets."""
    outcomes: pa.Table
    """Rows of one arm with the columns of evaluate/outcomes.parquet, on the templates and examples that all trials share."""


def write_sweep(run: Run, trials: Sequence[Trial], *, config: ReportConfig, seed: int, engine_starts: int, folder: str = "report") -> dict[str, Any]:
    """The content of sweep.json, after writing it with sweep.md, sweep.svg and sweep.png to `folder` of the run.

    The interval of a size is over templates and examples, and over subset seeds where there are several; None below 12 templates.
    Raises `ValueError` where there is no trial, or one whose outcomes hold another number of arms than one.
    """
    if not trials:
        raise ValueError("a sweep report needs at least one trial")
    trials = sorted(trials, key=lambda trial: (trial.size, trial.subset_seed))
    arms = [_only_arm(trial) for trial in trials]
    sizes: list[dict[str, Any]] = []
    for trial, arm in zip(trials, arms, strict=True):
        found = figures(arm, threshold=config.threshold)
        sizes.append({"size": trial.size, "seed": trial.subset_seed, "mean": found.mean, "std": found.std, "worst": found.worst})
    curve: list[dict[str, Any]] = []
    for size in sorted({trial.size for trial in trials}):
        values = np.concatenate([arm.correct for trial, arm in zip(trials, arms, strict=True) if trial.size == size])
        means = [row["mean"] for row in sizes if row["size"] == size]
        low, high = (None, None)
        if not refusal(values.shape[1]):
            low, high = bootstrap_interval(values, rng=np.random.default_rng(seed), num_bootstrap=config.num_bootstrap, confidence=config.confidence)
        curve.append({"size": size, "mean": float(np.mean(means)), "low": low, "high": high})
    result = {"sizes": sizes, "curve": curve, "engine_starts": engine_starts}
    run.write_json(f"{folder}/sweep.json", result)
    run.write_bytes(f"{folder}/sweep.md", _markdown(result).encode())
    for form in ("svg", "png"):
        run.write_bytes(f"{folder}/sweep.{form}", sweep_plot(curve, sizes, form=form))
    return result


def _only_arm(trial: Trial) -> Any:
    arms = list(arms_from_table(trial.outcomes).values())
    if len(arms) != 1:
        raise ValueError(f"trial size {trial.size}, seed {trial.subset_seed}: outcomes of one arm are needed, found {len(arms)}")
    return arms[0]


def recommended(curve: Sequence[dict[str, Any]], *, tolerance: float = 0.01) -> int:
    """The smallest size whose mean is within `tolerance` of the best mean."""
    best = max(point["mean"] for point in curve)
    return int(next(point["size"] for point in curve if point["mean"] >= best - tolerance))


def _markdown(result: dict[str, Any]) -> str:
    lines = ["| training templates | mean, % | interval |", "| --- | --- | --- |"]
    for point in result["curve"]:
        interval = "–" if point["low"] is None else f"{percent(point['low'])} to {percent(point['high'])}"
        lines.append(f"| {point['size']} | {percent(point['mean'])} | {interval} |")
    lines += ["", f"Smallest size within one point of the best: {recommended(result['curve'])} templates.", "", "![Held-out accuracy by size](sweep.svg)"]
    return "# Prompt-set size\n\n" + "\n".join(lines) + "\n"
