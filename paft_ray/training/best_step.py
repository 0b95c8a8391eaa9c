"""Which checkpoint is exported: accuracy on validation rows under training templates, and the choice by it. Pure; needs
neither Ray nor torch.

Only for tasks with labels. An answer counts as right where the complete right label, EOS included, is the most
likely one of all labels (sums of token log-probabilities). Evaluation answers greedily over the trie of labels instead,
so the two can differ where labels have several tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from paft_ray.config import TrainConfig
from paft_ray.errors import UserError
from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.tasks.task import Example
from paft_ray.training.example_builder import Row

_METRICS = {"mean": "validation_accuracy", "worst": "validation_accuracy_worst", "q0.1": "validation_accuracy_q0.1"}


@dataclass(frozen=True, kw_only=True)
class LabelRows:
    """Every label behind the prompts of templates x examples."""

    rows: tuple[Row, ...]
    """[templates x examples x labels]; `position` is the place in that order."""
    right: tuple[int, ...]
    """[examples] index of the right label."""
    num_templates: int
    num_labels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(templates, examples, labels)."""
        return self.num_templates, len(self.right), self.num_labels


def label_rows(table: pa.Table | None, templates: PromptSet, encoder: Encoder, config: TrainConfig) -> LabelRows | None:
    """The rows of every such validation of a training; None where the last weights are exported. `table`: columns id,
    fields, answer.

    Raises `UserError` for a task without labels and for no row.
    """
    if config.export == "last":
        return None
    if not encoder.task.label_texts:
        raise UserError(
            f"train.export={config.export}: task {encoder.task.name} has no labels to measure accuracy with; set "
            "train.export=last"
        )
    if table is None or not table.num_rows:
        raise UserError(f"train.export={config.export}: 0 validation rows; give at least one, or set train.export=last")
    examples = [Example(**row) for row in table.slice(0, config.num_validation).to_pylist()]
    chosen = templates.take(min(config.num_validation_templates, len(templates)), seed=0).templates
    labels = encoder.task.label_texts
    rows: list[Row] = []
    for template, example in itertools.product(chosen, examples):
        encoded = encoder.encode(template, example)
        answers = encoder.label_ids(encoded.after_newline)
        rows += [
            Row(
                position=len(rows) + place,
                epoch=0,
                weight=1.0,
                prompt_ids=encoded.prompt_ids,
                answer_ids=answers[label],
                template=template.id,
                truncated_characters=encoded.truncated_characters,
                example_id=example.id,
            )
            for place, label in enumerate(labels)
        ]
    right = tuple(labels.index(example.answer) for example in examples)
    return LabelRows(rows=tuple(rows), right=right, num_templates=len(chosen), num_labels=len(labels))


def accuracy_metrics(scores: NDArray[np.float64], right: Sequence[int]) -> dict[str, float]:
    """Metrics over templates. `scores`: [templates, examples, labels], log-probabilities."""
    accuracy = (scores.argmax(2) == np.asarray(right)).mean(1)
    found = {"mean": accuracy.mean(), "worst": accuracy.min(), "q0.1": np.quantile(accuracy, 0.1)}
    return {_METRICS[name]: float(value) for name, value in found.items()}


def best_step(history: Iterable[Mapping[str, Any]], steps: Sequence[int], export: str) -> int | None:
    """The step, among `steps` with a checkpoint, whose weights `train.export` asks for; None where none was measured
    yet.

    Equal metrics: the higher mean over templates, then the later step, so that where validation cannot separate them,
    the choice is that of `last`.
    """
    if export == "last":
        return max(steps)
    rows = {row["step"]: row for row in history if _METRICS["mean"] in row}
    return max(
        (step for step in steps if step in rows),
        key=lambda step: (rows[step][_METRICS[export]], rows[step][_METRICS["mean"]], step),
        default=None,
    )
