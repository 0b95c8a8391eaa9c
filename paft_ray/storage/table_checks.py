"""What the values of a stored table must be, beyond their types."""

import pyarrow as pa
import pyarrow.compute as pc

from paft_ray.storage.schemas import MOST_LABELS, MOST_SAID, MOST_TOKENS

_FRACTIONS = ("behavior", "strict", "label_mass")


def check_scores(table: pa.Table) -> None:
    """Raises `ValueError` for a score/scores.parquet with a missing template or an accuracy that is none."""
    _check_present(table, ("template_id", "accuracy"))
    _check_range(table["accuracy"], "accuracy", 0, 1)


def check_outcomes(table: pa.Table) -> None:
    """Raises `ValueError` for outcomes without rows, with missing values, or values out of their range."""
    if not table.num_rows:
        raise ValueError("it holds no rows")
    _check_present(table, ("arm", "seed", "template_id", "example_id", "answer", "parsed", "correct"))
    if pc.any(pc.is_inf(table["logprob"].cast(pa.float64()))).as_py():
        raise ValueError("logprob: finite numbers are needed")
    for name in _FRACTIONS:
        _check_range(table[name], name, 0, 1)
    _check_range(table["num_tokens"], "num_tokens", 0, MOST_TOKENS)
    if (longest := pc.max(pc.utf8_length(table["said"].cast(pa.string()))).as_py() or 0) > MOST_SAID:
        raise ValueError(f"said: {longest} characters, at most {MOST_SAID} are kept")
    _check_label_logprobs(table["label_logprobs"])


def check_answers(table: pa.Table) -> None:
    """Raises `ValueError` for an evaluate/answers.parquet with missing values."""
    _check_present(table, ("arm", "seed", "template_id", "example_id", "text"))


def _check_label_logprobs(values: pa.ChunkedArray) -> None:
    """Log-probabilities of the same number of labels in every row of a table that has any."""
    if pa.types.is_null(values.type):
        return
    lengths = pc.unique(pc.list_value_length(values).drop_null()).to_pylist()
    if len(lengths) > 1 or any(not 2 <= length <= MOST_LABELS for length in lengths):
        raise ValueError(
            f"label_logprobs: lists of {', '.join(map(str, lengths[:5]))} numbers, 2 to {MOST_LABELS} of one length "
            "are needed"
        )
    _check_range(pc.list_flatten(values), "label_logprobs", -(2**20), 0)
    if pc.list_flatten(values).null_count:
        raise ValueError("label_logprobs: finite numbers are needed")


def _check_present(table: pa.Table, names: tuple[str, ...]) -> None:
    for name in names:
        if table[name].null_count:
            raise ValueError(f"{name}: {table[name].null_count} rows have no value")


def _check_range(values: pa.ChunkedArray, name: str, low: float, high: float) -> None:
    """Raises for a value that is not in the range; NaN is in none, null is not looked at."""
    values = values.cast(pa.float64())
    if not pc.all(pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high)), min_count=0).as_py():
        raise ValueError(f"{name}: values from {low} to {high} are needed")
