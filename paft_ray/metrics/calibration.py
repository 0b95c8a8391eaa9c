"""Labels calibrated per template, a control: does it take training to be robust to templates, or does it suffice to
take out what a template makes the model prefer? Batch Calibration (Zhou et al. 2023, arXiv 2309.17249)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paft_ray.errors import UserError
from paft_ray.metrics.outcomes import ArmOutcomes, arms_from_table

SUFFIX = "+cal"
"""Of the name of a calibrated arm."""
_TIE = 1e-6
"""Nats below which two scores are one: log-probabilities are stored as float32."""
_GROUP = ("arm", "seed", "template_id")


def calibrated_arms(table: Any, labels: Sequence[str], batch: Any = None) -> dict[str, ArmOutcomes]:
    """`ARM+cal` -> the arm's outcomes (measure knowledge) with calibrated labels: the score of a label is its
    log-probability for this row and template minus its mean over unlabeled rows under this template.

    `table`: rows of evaluate/outcomes.parquet. `labels`: of the task, in its order. `batch`: answers of the same models
    under the same templates to other rows, validation rows say; None: the measured rows themselves, without their
    answers, which makes the control transductive. Empty where a row has no log-probabilities of labels. Raises
    `UserError` where `batch` lacks a model or template of the table, or the number of labels is another.
    """
    if not len(table) or table.column("label_logprobs").null_count:
        return {}
    others = table if batch is None else batch
    scores, of_batch = _scores(table, len(labels)), _scores(others, len(labels))
    row_group, batch_group = _groups(table, others)
    chosen = calibrated_choice(scores, _means(of_batch, batch_group, row_group))
    predicted = [labels[index] for index in chosen]
    right = [one == other for one, other in zip(predicted, table.column("answer").to_pylist(), strict=True)]
    changed = {
        "arm": [f"{arm}{SUFFIX}" for arm in table.column("arm").to_pylist()],
        "predicted": predicted,
        "parsed": [True] * len(right),
        "correct": right,
    }
    for name, values in changed.items():
        table = table.set_column(table.schema.get_field_index(name), name, [values])
    return arms_from_table(table, "knowledge")


def calibrated_choice(scores: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of the label whose score is the most above its mean; of equal ones the first. Shapes [rows, labels] and
    [rows, labels] -> [rows]."""
    above = scores - means
    return np.argmax(above >= above.max(axis=1, keepdims=True) - _TIE, axis=1)


def _means(scores: NDArray[np.float64], group: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean scores of the group of each wanted row. Shape [wanted rows, labels]. Raises `UserError` for a group without
    rows."""
    num_groups = int(max(group.max(initial=-1), wanted.max(initial=-1))) + 1
    counts, sums = np.bincount(group, minlength=num_groups), np.zeros((num_groups, scores.shape[1]))
    np.add.at(sums, group, scores)
    if (counts[wanted] == 0).any():
        raise UserError(
            "calibration: the other rows lack answers of a model under a template that is measured; evaluate the same "
            "models under the same templates on them"
        )
    return np.asarray(sums[wanted] / counts[wanted][:, None])


def _groups(*tables: Any) -> list[NDArray[np.int64]]:
    """Code of model and template of each row, the same in every table."""
    sizes = np.cumsum([len(table) for table in tables])[:-1]
    columns = [[value for table in tables for value in table.column(name).to_pylist()] for name in _GROUP]
    codes = [np.unique(np.asarray(column), return_inverse=True) for column in columns]
    shape = tuple(len(names) for names, _ in codes)
    return np.split(np.ravel_multi_index(tuple(code for _, code in codes), shape), sizes)


def _scores(table: Any, num_labels: int) -> NDArray[np.float64]:
    """Log-probabilities of labels. Shape [rows, labels]."""
    found = table.column("label_logprobs").to_pylist()
    if any(row is None or len(row) != num_labels for row in found):
        raise UserError(f"calibration: log-probabilities of {num_labels} labels are needed in every row")
    return np.array(found, dtype=np.float64).reshape(-1, num_labels)
