"""Training rows of positions: draw a template, render, encode. Needs neither Ray nor torch, so any data loader can use
it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, cast

import numpy as np
import pyarrow as pa

from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.prompts.sampling import Draw, PerExample
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Example
from paft_ray.training.data_order import locate


class Row(TypedDict):
    """One training row, as it crosses Ray Data: a plain dict."""

    position: int
    """Place in the global order."""
    epoch: int
    weight: float
    """1, or 0 for a row that only fills the last batch of a run."""
    prompt_ids: list[int]
    answer_ids: list[int]
    template: str
    """Content id."""
    truncated_characters: int
    """Characters by which fields were truncated to keep to `model.max_prompt_tokens`."""
    example_id: str


def empty_row() -> Row:
    """A row without loss, which fills a pass."""
    return Row(
        position=0,
        epoch=0,
        weight=0.0,
        prompt_ids=[0],
        answer_ids=[0],
        template="",
        truncated_characters=0,
        example_id="",
    )


@dataclass(frozen=True, kw_only=True)
class ExampleBuilder:
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
        """Columns of `Row`, one entry per position. Raises `UserError` where a template alone is longer than the
        longest prompt."""
        epochs, offsets, indices = locate(positions, self.table.num_rows, self.seed)
        columns: dict[str, list[Any]] = {name: [] for name in Row.__annotations__}
        for position, epoch, offset, raw in zip(
            positions, epochs, offsets, self.table.take(pa.array(indices)).to_pylist(), strict=True
        ):
            example = Example(id=raw["id"], fields=raw["fields"], answer=raw["answer"])
            drawn = self.draw.index(
                epoch=int(epoch), example_id=example.id, index_in_epoch=int(offset), num_templates=len(self.templates)
            )
            template = self.templates[drawn]
            encoded = self.encoder.encode(template, example)
            columns["position"].append(int(position))
            columns["epoch"].append(int(epoch))
            columns["weight"].append(float(position < self.num_positions))
            columns["prompt_ids"].append(encoded.prompt_ids)
            columns["answer_ids"].append(encoded.answer_ids)
            columns["template"].append(template.id)
            columns["truncated_characters"].append(encoded.truncated_characters)
            columns["example_id"].append(example.id)
        return columns


def rows_of(columns: dict[str, list[Any]]) -> list[Row]:
    """A list of rows from columns."""
    return [cast(Row, dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def validation_rows(table: pa.Table, templates: PromptSet, encoder: Encoder, limit: int) -> tuple[Row, ...]:
    """Rows of the periodic validation under drawn templates, at most `limit`, the same for every training."""
    wanted = min(limit, table.num_rows)
    if not wanted:
        return ()
    builder = ExampleBuilder(
        table=table,
        templates=templates.templates,
        encoder=encoder,
        draw=PerExample(seed=0),
        seed=0,
        num_positions=wanted,
    )
    return tuple(rows_of(builder.rows(np.arange(wanted, dtype=np.int64))))
