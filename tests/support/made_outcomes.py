"""Outcomes of an arm from an array of right and wrong answers, for the tests of figures and intervals; and the rows of
outcomes.parquet."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from paft_ray.metrics import ArmOutcomes
from paft_ray.storage.schemas import EVALUATED


def outcome_row(
    arm: str, template: str, example: str, answer: str, predicted: str | None, *, seed: int = 0, **values: Any
) -> dict[str, Any]:
    """One row for `outcome_table`: what the arm chose (None: not parsed), and `values` of other columns."""
    return {
        "arm": arm,
        "seed": seed,
        "template_id": template,
        "example_id": example,
        "answer": answer,
        "predicted": predicted,
        "parsed": predicted is not None,
        "correct": predicted == answer,
        "logprob": -0.5,
        **values,
    }


def outcome_table(rows: Sequence[Mapping[str, Any]], labels: Sequence[str] = ()) -> pa.Table:
    """Rows of evaluate/outcomes.parquet. What a row leaves out follows from its constrained choice, as if the model had
    said what it chose: `behavior` and `strict` are `correct`, `named` and `said` are `predicted`; wrong labels share
    what `logprob` leaves of the probability. `labels`: of the task; empty: the answers of all rows, sorted."""
    labels = labels or sorted({row["answer"] for row in rows})
    return pa.Table.from_pylist([{**_unconstrained(row, labels), **row} for row in rows], schema=EVALUATED)


def _unconstrained(row: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    logprob = row.get("logprob")
    others = None if logprob is None else math.log(max(-math.expm1(logprob), 1e-9) / max(1, len(labels) - 1))
    of_labels = [logprob if label == row["answer"] else others for label in labels]
    said = str(row["predicted"] or "")
    return {
        "behavior": float(row["correct"]),
        "strict": float(row["correct"]),
        "named": row["predicted"],
        "said": said[:48],
        "num_tokens": len(said.split()) + 1,
        "label_logprobs": of_labels if logprob is not None and len(labels) > 1 else None,
        "label_mass": 0.9 if said else 0.1,
    }


def arm(correct: np.ndarray, predicted: np.ndarray | None = None, seeds: tuple[int, ...] | None = None) -> ArmOutcomes:
    """`correct`, `predicted`: [templates, examples] or [seeds, templates, examples]."""
    correct = np.asarray(correct, dtype=float)
    correct = correct if correct.ndim == 3 else correct[None]
    if predicted is not None:
        predicted = np.asarray(predicted)
        predicted = predicted if predicted.ndim == 3 else predicted[None]
    num_seeds, templates, examples = correct.shape
    return ArmOutcomes(
        template_ids=tuple(f"t{i:03}" for i in range(templates)),
        example_ids=tuple(f"e{i:03}" for i in range(examples)),
        seeds=seeds or tuple(range(num_seeds)),
        correct=correct,
        predicted=predicted,
    )
