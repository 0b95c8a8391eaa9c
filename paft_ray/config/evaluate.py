"""Section `evaluate`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from paft_ray.config.base import Positive, Section


class EvaluateConfig(Section):
    """Stage `evaluate` (the section may also be called `evaluation`): every arm answers the test rows under every
    held-out template."""

    budget: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Fraction of the (template, test row) cells that are answered, the same ones for every arm and seed; below 1 the
    report estimates the full grid."""
    latency_sample_rows: Annotated[int, Field(ge=0)] = 32
    """Rows per arm answered by unconstrained generation to measure answer length and time; 0: none."""
    max_answer_tokens: Positive = 32
    """Longest answer of an unconstrained generation in tokens (tasks of kind `free` state their own)."""
