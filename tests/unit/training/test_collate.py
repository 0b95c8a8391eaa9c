"""Rows to model inputs: labels, padding, buckets, and the loss."""

import math

import pytest
import torch

from paft_ray.training.collate import IGNORE_INDEX, answer_loss, answer_tokens, collate, micro_batches
from paft_ray.training.example_builder import Row


def _row(position: int, prompt: int, answer: list[int], weight: float = 1.0) -> Row:
    ids = [100 + position] * prompt
    return Row(
        position=position,
        epoch=0,
        weight=weight,
        prompt_ids=ids,
        answer_ids=answer,
        template="t",
        example_id=str(position),
    )


def test_exactly_the_answer_and_its_end_token_carry_loss() -> None:
    batch = collate([_row(0, 3, [7, 2]), _row(1, 5, [8, 9, 2])])
    assert batch.labels.tolist() == [[IGNORE_INDEX, 7, 2], [8, 9, 2]]
    assert batch.logits_to_keep == 4


def test_each_kept_logit_stands_one_before_its_label() -> None:
    rows = [_row(0, 3, [7, 2]), _row(1, 5, [8, 9, 2])]
    batch = collate(rows)
    kept = batch.input_ids[:, -batch.logits_to_keep :]
    labeled = batch.labels != IGNORE_INDEX
    assert torch.equal(kept[:, 1:][labeled], batch.labels[labeled])


def test_padding_is_on_the_left_masked_and_positions_start_at_the_first_token() -> None:
    batch = collate([_row(0, 1, [7, 2]), _row(1, 3, [8, 2])])
    assert batch.input_ids.tolist() == [[0, 0, 100, 7, 2], [101, 101, 101, 8, 2]]
    assert batch.attention_mask.tolist() == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert batch.position_ids.tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]


def test_micro_batches_hold_every_row_once_and_rows_of_like_length() -> None:
    rows = [_row(i, prompt, [1, 2]) for i, prompt in enumerate([9, 1, 8, 2, 7, 3])]
    chunks = micro_batches(rows, 2)
    assert [[len(row["prompt_ids"]) for row in chunk] for chunk in chunks] == [[1, 2], [3, 7], [8, 9]]
    assert sorted(row["position"] for chunk in chunks for row in chunk) == list(range(6))


def test_micro_batches_refuse_a_ragged_step() -> None:
    with pytest.raises(AssertionError, match="not a multiple"):
        micro_batches([_row(0, 1, [1])], 2)


def test_loss_is_the_sum_over_answer_tokens_of_rows_with_weight() -> None:
    rows = [_row(0, 2, [3, 2]), _row(1, 2, [5, 6, 2], weight=0.0)]
    batch = collate(rows)
    logits = torch.zeros(2, batch.logits_to_keep, 10)
    assert answer_loss(logits, batch).item() == pytest.approx(2 * math.log(10))
    assert answer_tokens(rows) == 2
