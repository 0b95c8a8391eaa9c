"""Columns of the tables that stages write and others read; apart from the figures, whose libraries take a second to
import."""

import pyarrow as pa

OUTCOMES = pa.schema(
    [
        ("template_id", pa.string()),
        ("example_id", pa.string()),
        ("answer", pa.string()),
        ("predicted", pa.string()),
        ("parsed", pa.bool_()),
        ("correct", pa.bool_()),
        ("logprob", pa.float64()),
    ]
)
"""Columns of what one model answered."""
EVALUATED = OUTCOMES.append(pa.field("arm", pa.string())).append(pa.field("seed", pa.int32()))
"""Columns of evaluate/outcomes.parquet."""
SCORES = pa.schema(
    [
        ("template_id", pa.string()),
        ("accuracy", pa.float64()),
        ("stderr", pa.float64()),
        ("mean_logprob", pa.float64()),
        ("parse_failure_rate", pa.float64()),
        ("num_examples", pa.int64()),
    ]
)
"""Columns of score/scores.parquet."""
