"""Columns of the tables that stages write and others read; apart from the figures, whose libraries take a second to
import."""

import pyarrow as pa

MOST_SAID = 48
"""Characters of an unconstrained answer that outcomes keep."""
MOST_TOKENS = 2**15 - 1
"""Tokens of an answer that outcomes count."""
MOST_LABELS = 4096
"""Labels whose log-probabilities outcomes keep, in a row."""
OUTCOMES = pa.schema(
    [
        ("template_id", pa.string()),
        ("example_id", pa.string()),
        ("answer", pa.string()),
        ("predicted", pa.string()),
        ("parsed", pa.bool_()),
        ("correct", pa.bool_()),
        ("logprob", pa.float64()),
        ("behavior", pa.float32()),
        ("strict", pa.float32()),
        ("named", pa.string()),
        ("said", pa.string()),
        ("num_tokens", pa.int16()),
        ("label_logprobs", pa.list_(pa.float32())),
        ("label_mass", pa.float32()),
    ]
)
"""Columns of what one model answered.

Of tasks with labels `predicted`, `parsed`, `correct` and `logprob` (of the right label, normalized over the labels) are
of the choice constrained to the labels; else of the generated answer. `behavior` and `strict`: score in [0, 1] of the
unconstrained answer, parsed leniently and strictly; null where none was asked for. `named`: what lenient parsing found.
`said`: the unconstrained answer to a task with labels as far as it was generated, its first `MOST_SAID` characters: one
that can name no label any more is not generated to its end. `num_tokens`: of that, its end token included; 1 where its
first token is a label. `label_logprobs`: of every label
in the order of the task, normalized over the labels. `label_mass`: raw probability that the first token begins a
label."""
EVALUATED = OUTCOMES.append(pa.field("arm", pa.string())).append(pa.field("seed", pa.int32()))
"""Columns of evaluate/outcomes.parquet."""
ANSWERS = pa.schema(
    [
        ("arm", pa.string()),
        ("seed", pa.int32()),
        ("template_id", pa.string()),
        ("example_id", pa.string()),
        ("text", pa.string()),
    ]
)
"""Columns of evaluate/answers.parquet: what was generated for a task without labels."""
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
