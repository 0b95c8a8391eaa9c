"""A review as synthesize/quality.json holds it."""

from __future__ import annotations

from paft_ray.generators.quality.calibration import Calibration
from paft_ray.storage.quality import SignalFound


def signal_found(generator: str, calibration: Calibration) -> SignalFound:
    """The calibration of a signal on what one generator wrote."""
    found = calibration.found
    auc, low, high = (found.auc.value, found.auc.low, found.auc.high) if found else (None, None, None)
    return SignalFound(
        generator=generator,
        signal=calibration.signal,
        may_decide=calibration.may_decide,
        reason=calibration.reason,
        auc=auc,
        low=low,
        high=high,
        by_kind=found.by_kind if found else {},
        num_positives=found.num_positives if found else 0,
        num_negatives=found.num_negatives if found else 0,
        num_seeds=calibration.num_seeds,
        num_sure_seeds=calibration.num_sure_seeds,
    )
