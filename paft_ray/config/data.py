"""Section `data`."""

from __future__ import annotations

from paft_ray.config.base import Place, Positive, Section


class DataConfig(Section):
    """Which rows are used. Sources come from the task; a path given here takes the place of the task's own."""

    train: Place | None = None
    """File (JSONL, CSV or Parquet, any pyarrow URI) instead of the task's training source."""
    validation: Place | None = None
    """Likewise for validation; where neither names one, rows are kept back from training."""
    test: Place | None = None
    """Likewise for test; where neither names one, rows are kept back from training."""
    num_train: Positive | None = None
    """Training rows, drawn by seed; default: all."""
    num_validation: Positive = 100
    """Validation rows, drawn by seed; labels in the proportions of the source. Scoring and periodic validation use
    them."""
    num_test: Positive | None = None
    """Test rows, drawn by seed; labels in the proportions of the source. Default: all."""
