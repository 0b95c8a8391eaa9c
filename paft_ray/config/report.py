"""Section `report`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from paft_ray.config.base import Fraction, Section


class ReportConfig(Section):
    """Stage `report`: figures over held-out templates."""

    threshold: Fraction = 0.8
    """Accuracy above which a template counts for the fraction above a threshold."""
    primary: str | None = None
    """The comparison named beforehand, `FIRST-SECOND` as in results.json, which is not corrected for the others.
    Default: `paft-sft` where both are there."""
    num_bootstrap: Annotated[int, Field(gt=0, le=1_000_000)] = 2000
    """Bootstrap draws of an interval of spread, at most a million."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Level of the intervals."""
