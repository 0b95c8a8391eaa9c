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
    """`ARM+cal` -> the arm's outcomes with calibrated labels: the score of a label is its log-probability for this row
    and template minus its mean over unlabeled rows under this template. `most_probable_arms` is what to compare with.

    `table`: rows of evaluate/outcomes.parquet. `labels`: of the task, in its order. `batch`: answers of the same models
    under the same templates to other rows, validation rows say; None: the measured rows themselves, without their
    answers, which makes the control transductive. Empty where a row has no log-probabilities of labels. Raises
    `UserError` where `batch` lacks a model or template of the table, or the number of labels is another.
    """
    if not _has_scores(table):
        return {}
    others = table if batch is None else batch
    scores, of_batch = _scores(table, len(labels)), _scores(others, len(labels))
    row_group, batch_group = _groups(table, others)
    chosen = calibrated_choice(scores, _means(of_batch, batch_group, row_group))
    return _choosing(table, [labels[index] for index in chosen], SUFFIX)


def most_probable_arms(table: Any, labels: Sequence[str]) -> dict[str, ArmOutcomes]:
    """`ARM` -> the arm's outcomes with its most probable label: calibration without the calibration.

    Where no two labels begin with the same token that is knowledge. Else greedy decoding, which follows the most
    probable first token, may end in another label. Of equally probable labels it is the greedy one, else the first.
    Arguments, empty and errors as in `calibrated_arms`.
    """
    if not _has_scores(table):
        return {}
    scores, greedy = _scores(table, len(labels)), table.column("predicted").to_pylist()
    best = calibrated_choice(scores, np.zeros_like(scores))
    at_best = scores >= scores.max(axis=1, keepdims=True) - _TIE
    place = {label: index for index, label in enumerate(labels)}
    chosen = [
        label if label in place and equal[place[label]] else labels[index]
        for label, equal, index in zip(greedy, at_best, best, strict=True)
    ]
    return _choosing(table, chosen, "")


def _has_scores(table: Any) -> bool:
    return bool(len(table)) and not table.column("label_logprobs").null_count


def _choosing(table: Any, predicted: Sequence[str], suffix: str) -> dict[str, ArmOutcomes]:
    """The arms, named with a suffix, as if every row had ended in the label given for it."""
    right = [one == other for one, other in zip(predicted, table.column("answer").to_pylist(), strict=True)]
    changed = {
        "arm": [f"{arm}{suffix}" for arm in table.column("arm").to_pylist()],
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
