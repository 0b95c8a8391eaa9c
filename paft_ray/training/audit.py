"""Replays the global order and the draw of a training and compares its audit log with them. Needs neither Ray nor
torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paft_ray.prompts.sampling import Draw
from paft_ray.training.data_order import locate

_SHOWN = 3  # differing rows that are described in words
_CHUNK = 2**16


@dataclass(frozen=True, kw_only=True)
class Training:
    """All that decides which pairs a training uses."""

    example_ids: Sequence[str]
    """In order of the training data."""
    templates: Sequence[str]
    """Content ids, in order of the prompt set."""
    draw: Draw
    seed: int
    global_batch: int
    num_steps: int
    num_positions: int
    """Positions that carry loss; those from here to the end of the last step have weight 0."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a log says against the replay. A use is one example in one epoch, a row that only fills the last batch
    included."""

    rows: int
    steps: int
    """Different optimizer steps in the log."""
    epochs: float
    """Passes over the data that were due."""
    lost: int
    """Uses that were due and are not in the log."""
    repeated: int
    """Uses beyond the first of the same example in the same epoch."""
    differing: int
    """Rows whose step, position, epoch, example, template or weight is not that of the replay."""
    reported: tuple[str, ...]
    """The first differing rows in words."""

    @property
    def agrees(self) -> bool:
        """Every use once, with the template that was drawn."""
        return not (self.lost or self.repeated or self.differing)


def check(training: Training, log: Iterable[pa.Table]) -> Findings:
    """Compares a log (tables with `audit_log.SCHEMA`, in any order) with the replay; holds 4 bytes per position,
    whatever the log's size."""
    n, total = len(training.example_ids), training.num_steps * training.global_batch
    uses = np.zeros((-(-total // n), n), dtype=np.int32)
    rows, differing, steps, reported = 0, 0, set[int](), list[str]()
    for table in log:
        examples = _indices(table["example_id"], training.example_ids)
        epochs = table["epoch"].to_numpy()
        known = (examples >= 0) & (epochs >= 0) & (epochs < len(uses))
        np.add.at(uses, (epochs[known], examples[known]), 1)
        wrong = _differing(training, table, examples)
        reported += [_words(training, table, int(row)) for row in wrong[: _SHOWN - len(reported)]]
        differing += len(wrong)
        steps |= set(pc.unique(table["step"]).to_pylist())
        rows += table.num_rows
    return Findings(
        rows=rows,
        steps=len(steps),
        epochs=training.num_positions / n,
        lost=_lost(training, uses),
        repeated=int(np.maximum(uses - 1, 0).sum()),
        differing=differing,
        reported=tuple(reported),
    )


def _lost(training: Training, uses: np.ndarray) -> int:
    total = training.num_steps * training.global_batch
    lost = 0
    for start in range(0, total, _CHUNK):
        epochs, _, examples = locate(
            np.arange(start, min(start + _CHUNK, total)), len(training.example_ids), training.seed
        )
        lost += int((uses[epochs, examples] == 0).sum())
    return lost


def _differing(training: Training, table: pa.Table, examples: np.ndarray) -> np.ndarray:
    """Indices of the rows of a log's table that are not as replayed."""
    positions = table["position"].to_numpy()
    inside = (positions >= 0) & (positions < training.num_steps * training.global_batch)
    at = np.where(inside, positions, 0)
    epochs, drawn, due = _replay(training, at)
    templates = _indices(table["template"], training.templates)
    agree = inside & (table["step"].to_numpy() == at // training.global_batch) & (table["epoch"].to_numpy() == epochs)
    agree &= (examples == due) & (templates == drawn) & (table["weight"].to_numpy() == (at < training.num_positions))
    return np.flatnonzero(~agree)


def _replay(training: Training, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(epoch, template index, example index) of each position."""
    epochs, offsets, examples = locate(positions, len(training.example_ids), training.seed)
    drawn = [
        training.draw.index(
            epoch=epoch,
            example_id=training.example_ids[example],
            index_in_epoch=offset,
            num_templates=len(training.templates),
        )
        for epoch, offset, example in zip(epochs.tolist(), offsets.tolist(), examples.tolist(), strict=True)
    ]
    return epochs, np.array(drawn, dtype=np.int64), examples


def _indices(column: pa.ChunkedArray, values: Sequence[str]) -> np.ndarray:
    """Index of each entry in `values`, -1 where it is not among them."""
    return pc.fill_null(pc.index_in(column, value_set=pa.array(values, type=pa.string())), -1).to_numpy()


def _words(training: Training, table: pa.Table, index: int) -> str:
    row = table.slice(index, 1).to_pylist()[0]
    found = (
        f"step {row['step']}, position {row['position']}, epoch {row['epoch']}: {row['example_id']} under "
        f"{row['template']}, weight {row['weight']:g}"
    )
    position = row["position"]
    if not 0 <= position < training.num_steps * training.global_batch:
        return f"{found}; there is no such position"
    epochs, drawn, examples = _replay(training, np.array([position]))
    due = f"{training.example_ids[int(examples[0])]} under {training.templates[int(drawn[0])]}"
    return (
        f"{found}; due was step {position // training.global_batch}, epoch {epochs[0]}: {due}, weight "
        f"{int(position < training.num_positions)}"
    )
