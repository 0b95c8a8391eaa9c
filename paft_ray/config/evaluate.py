"""Section `evaluate`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from paft_ray.config.base import Positive, Section


class EvaluateConfig(Section):
    """Stage `evaluate` (the section may also be called `evaluation`): every arm answers the test rows under every
    held-out template."""

    budget: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Fraction of the (template, test row) cells that are answered, the same ones for every arm and seed; below 1 the
    report estimates the full grid."""
    latency_sample_rows: Annotated[int, Field(ge=0)] = 96
    """Rows per arm answered once more, to the end, to measure tokens and time of a right answer (given from 64 right
    ones on); 0: none."""
    max_answer_tokens: Positive = 16
    """Longest unconstrained answer in tokens, or that of the longest label where it is longer (tasks without labels
    state their own)."""
    calibration: Literal["batch"] | None = "batch"
    """Control in the report: each arm once more with its labels calibrated per template over the evaluated rows
    (transductive; Batch Calibration, arXiv 2309.17249), from stored log-probabilities; null: none."""


def answers_key(evaluate: EvaluateConfig) -> dict[str, Any]:
    """The settings that decide answers."""
    return evaluate.model_dump(mode="json", exclude={"calibration"})
