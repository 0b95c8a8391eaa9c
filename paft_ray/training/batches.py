"""From positions to model inputs: draw a template, render, encode, then bucket by length, pad and mask.

`RowMaker` needs neither Ray nor torch at run time and may feed any data loader; `collate` makes torch tensors for one forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import torch

from paft_ray.prompts.draw import Draw
from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Example
from paft_ray.training.order import locate

IGNORED = -100


class Row(TypedDict):
    """One training row, as it crosses Ray Data."""

    position: int
    """Place in the global order."""
    weight: float
    """1, or 0 for a row that only fills the last batch of a run."""
    prompt_ids: list[int]
    answer_ids: list[int]
    template: int
    """Index into the prompt set."""
    example_id: str


@dataclass(frozen=True, kw_only=True)
class RowMaker:
    """Training rows of any positions: a pure function of table, templates, seed and position."""

    table: pa.Table
    """Columns id, fields (struct of strings), answer."""
    templates: Sequence[PromptTemplate]
    encoder: Encoder
    draw: Draw
    seed: int
    num_positions: int
    """Positions from here on have weight 0."""

    def rows(self, positions: np.ndarray) -> dict[str, list[Any]]:
        """Columns of `Row`, one entry per position. Raises `UserError` where a template alone is longer than the longest prompt."""
        epochs, offsets, indices = locate(positions, self.table.num_rows, self.seed)
        columns: dict[str, list[Any]] = {name: [] for name in Row.__annotations__}
        for position, epoch, offset, raw in zip(positions, epochs, offsets, self.table.take(pa.array(indices)).to_pylist(), strict=True):
            example = Example(id=raw["id"], fields=raw["fields"], answer=raw["answer"])
            template = self.draw.index(epoch=int(epoch), example_id=example.id, index_in_epoch=int(offset), num_templates=len(self.templates))
            encoded = self.encoder.encode(self.templates[template], example)
            columns["position"].append(int(position))
            columns["weight"].append(float(position < self.num_positions))
            columns["prompt_ids"].append(encoded.prompt_ids)
            columns["answer_ids"].append(encoded.answer_ids)
            columns["template"].append(template)
            columns["example_id"].append(example.id)
        return columns


def rows_of(columns: dict[str, list[Any]]) -> list[Row]:
    """A list of rows from columns."""
    return [Row(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def length(row: Row) -> int:
    """Tokens of prompt and answer."""
    return len(row["prompt_ids"]) + len(row["answer_ids"])


def answer_tokens(rows: Sequence[Row]) -> float:
    """Tokens that carry loss, end tokens included; rows of weight 0 count nothing."""
    return sum(len(row["answer_ids"]) * row["weight"] for row in rows)


def micro_batches(rows: Sequence[Row], micro_batch: int) -> list[list[Row]]:
    """Chunks of equal size, rows of like length together (less padding); ties keep the global order, so the chunks are reproducible."""
    assert len(rows) % micro_batch == 0, f"{len(rows)} rows are not a multiple of {micro_batch}"
    ordered = sorted(rows, key=lambda row: (length(row), row["position"]))
    return [ordered[i : i + micro_batch] for i in range(0, len(ordered), micro_batch)]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs of one forward pass, padded on the left so that all answers end in the last column."""

    input_ids: torch.Tensor
    """[batch, seq] int64."""
    attention_mask: torch.Tensor
    """[batch, seq] int64, 0 on padding."""
    position_ids: torch.Tensor
    """[batch, seq] int64, from 0 at each row's first token."""
    labels: torch.Tensor
    """[batch, longest answer] int64: ids of answer and end token, `IGNORED` before them."""
    weights: torch.Tensor
    """[batch] float32."""

    @property
    def logits_to_keep(self) -> int:
        """Last positions whose logits are needed: the answer's and the one before it."""
        return self.labels.shape[1] + 1

    def to(self, device: torch.device) -> Batch:
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def collate(rows: Sequence[Row]) -> Batch:
    """The `Batch` of some rows. Exactly the answer and its end token are labels."""
    width, answer = max(map(length, rows)), max(len(row["answer_ids"]) for row in rows)
    input_ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros_like(input_ids)
    labels = torch.full((len(rows), answer), IGNORED, dtype=torch.int64)
    for i, row in enumerate(rows):
        input_ids[i, width - length(row) :] = torch.tensor([*row["prompt_ids"], *row["answer_ids"]])
        mask[i, width - length(row) :] = 1
        labels[i, answer - len(row["answer_ids"]) :] = torch.tensor(row["answer_ids"])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    weights = torch.tensor([row["weight"] for row in rows], dtype=torch.float32)
    return Batch(input_ids=input_ids, attention_mask=mask, position_ids=positions, labels=labels, weights=weights)


def answer_loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum of token cross-entropies over answer and end tokens, weighted by row; scalar float32. `logits`: [batch, longest answer + 1, vocabulary]."""
    scores = logits[:, :-1].float().transpose(1, 2)
    losses = torch.nn.functional.cross_entropy(scores, batch.labels, ignore_index=IGNORED, reduction="none")
    return (losses.sum(1) * batch.weights).sum()
