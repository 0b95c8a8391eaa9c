"""Measuring the engine on validation rows: loss, and accuracy over labels. Every function here is collective: all ranks
call it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from paft_ray.training.best_step import LabelRows, accuracy_metrics
from paft_ray.training.collate import Batch, answer_loss, answer_losses, answer_tokens, collate, micro_batches
from paft_ray.training.example_builder import Row
from paft_ray.training.job import Worker
from paft_ray.training.padding_free import flattened, runs_padding_free


def forward(engine: Any, batch: Batch) -> torch.Tensor:
    """Logits [batch, longest answer + 1, vocabulary]: only the positions that answers need.

    Positions go in as indices: a slice leaves hidden states strided, and the output head then runs as one small product
    per row (a sixth of the step).
    """
    if runs_padding_free(engine):
        logits = engine(**flattened(batch), use_cache=False).logits
        return logits.view(len(batch.input_ids), batch.logits_to_keep, -1)
    width = batch.input_ids.shape[1]
    return engine(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        logits_to_keep=torch.arange(width - batch.logits_to_keep, width, device=batch.input_ids.device),
        use_cache=False,
    ).logits


def validation_loss(engine: Any, rows: Sequence[Row], worker: Worker, micro_batch: int) -> float:
    """Mean loss per answer token over rows that the ranks share."""
    sums = torch.zeros(2, dtype=torch.float64, device=engine.device)
    with _measuring(engine):
        for chunk in _share(rows, worker, micro_batch):
            batch = collate(chunk).to(engine.device)
            sums += torch.tensor(
                [answer_loss(forward(engine, batch), batch).item(), answer_tokens(chunk)],
                dtype=torch.float64,
                device=engine.device,
            )
    dist.all_reduce(sums)
    return float(sums[0] / sums[1])


def label_accuracy(engine: Any, labels: LabelRows, worker: Worker, micro_batch: int) -> dict[str, float]:
    """`best_step.accuracy_metrics` of the engine over rows that the ranks share."""
    templates, examples, num_labels = labels.shape
    scores = torch.zeros(templates * examples * num_labels, dtype=torch.float64, device=engine.device)
    with _measuring(engine):
        for chunk in _share(labels.rows, worker, micro_batch):
            batch = collate(chunk).to(engine.device)
            found = -answer_losses(forward(engine, batch), batch).double()
            counted = batch.weights > 0
            places = torch.tensor([row["position"] for row in chunk], device=engine.device)
            scores[places[counted]] = found[counted]
    dist.all_reduce(scores)
    return accuracy_metrics(scores.reshape(labels.shape).cpu().numpy(), labels.right)


def _share(rows: Sequence[Row], worker: Worker, micro_batch: int) -> list[list[Row]]:
    """This rank's micro-batches; filled up with rows of weight 0, so that at any world size every rank has as many."""
    filling: list[Row] = [{**rows[-1], "weight": 0.0}] * (-len(rows) % (worker.world_size * micro_batch))
    return micro_batches([*rows, *filling][worker.rank :: worker.world_size], micro_batch)


@contextmanager
def _measuring(engine: Any) -> Iterator[None]:
    engine.eval()
    with torch.no_grad():
        yield
    engine.train()
