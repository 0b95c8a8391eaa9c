"""From rows to model inputs: bucket by length, pad on the left, mask all but the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from paft_ray.training.example_builder import Row

IGNORE_INDEX = -100


def length(row: Row) -> int:
    """Tokens of prompt and answer."""
    return len(row["prompt_ids"]) + len(row["answer_ids"])


def answer_tokens(rows: Sequence[Row]) -> float:
    """Tokens that carry loss, EOS included; rows of weight 0 count nothing."""
    return sum(len(row["answer_ids"]) * row["weight"] for row in rows)


def micro_batches(rows: Sequence[Row], micro_batch: int) -> list[list[Row]]:
    """Chunks of equal size, rows of like length together (less padding); ties keep the global order, so the chunks are
    reproducible."""
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
    """[batch, longest answer] int64: ids of answer and EOS, `IGNORE_INDEX` before them."""
    weights: torch.Tensor
    """[batch] float32."""

    @property
    def logits_to_keep(self) -> int:
        """Last positions whose logits are needed: the answer's and the one before it."""
        return self.labels.shape[1] + 1

    def to(self, device: torch.device) -> Batch:
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def collate(rows: Sequence[Row]) -> Batch:
    """The `Batch` of some rows. Exactly the answer and its EOS are labels."""
    width, answer = max(map(length, rows)), max(len(row["answer_ids"]) for row in rows)
    input_ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros_like(input_ids)
    labels = torch.full((len(rows), answer), IGNORE_INDEX, dtype=torch.int64)
    for i, row in enumerate(rows):
        input_ids[i, width - length(row) :] = torch.tensor([*row["prompt_ids"], *row["answer_ids"]])
        mask[i, width - length(row) :] = 1
        labels[i, answer - len(row["answer_ids"]) :] = torch.tensor(row["answer_ids"])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    weights = torch.tensor([row["weight"] for row in rows], dtype=torch.float32)
    return Batch(input_ids=input_ids, attention_mask=mask, position_ids=positions, labels=labels, weights=weights)


def answer_losses(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum of token cross-entropies over answer and EOS tokens of each row; float32 [batch]. `logits`: [batch, longest
    answer + 1, vocabulary]."""
    scores = logits[:, :-1].float().transpose(1, 2)
    return torch.nn.functional.cross_entropy(scores, batch.labels, ignore_index=IGNORE_INDEX, reduction="none").sum(1)


def answer_loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum of `answer_losses`, weighted by row; scalar float32."""
    return (answer_losses(logits, batch) * batch.weights).sum()
