"""What a signal of quality is worth, as it is written out."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from paft_ray.storage.manifests import Fraction, Part

_Count = Annotated[int, Field(ge=0)]


class SignalFound(Part):
    """Calibration of one signal on what one generator wrote."""

    generator: str
    signal: str
    may_decide: bool
    reason: str | None
    """Why it may not decide."""
    auc: Fraction | None
    """Mean over kinds of negatives; None: too few texts."""
    low: Fraction | None
    high: Fraction | None
    """90 % interval, over texts."""
    by_kind: dict[str, Fraction]
    """Kind of negatives (other_task, shuffled, forced) -> AUC of the positives against these alone."""
    num_positives: _Count
    num_negatives: _Count
    num_seeds: _Count
    num_sure_seeds: _Count
    """The user's seed templates, and those that it is sure of."""
