"""metrics.jsonl of a training: one JSON object per optimizer step in the lineage of the weights. Needs neither Ray nor
torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from paft_ray.errors import UserError, first_fault, one_line
from paft_ray.storage.store import Store

METRICS = "metrics.jsonl"


class _Row(BaseModel):
    """Entries that every row has; those of validations stand in some rows."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)
    __pydantic_extra__: dict[str, float | None]

    step: PositiveInt
    """Optimizer steps done."""
    loss: float
    """Mean per answer token."""
    tokens: NonNegativeInt
    """Of prompts and answers, all workers together."""
    truncated_rows: NonNegativeInt
    """Rows whose fields were truncated."""
    time_s: NonNegativeFloat


def read_metrics(out: Store) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl in a training's folder, none where the file is missing. Raises `UserError` for a file that
    is not what a training writes."""
    if not out.exists(METRICS):
        return []
    try:
        lines = out.read_bytes(METRICS).decode().splitlines()
        rows = [json.loads(line) for line in lines]
        for row in rows:
            _Row.model_validate(row)
    except ValidationError as error:
        raise _broken(out, first_fault(error, "a line")) from None
    except (ValueError, RecursionError) as error:
        raise _broken(out, one_line(error)[:200]) from None
    return rows


def write_metrics(out: Store, rows: Sequence[dict[str, Any]]) -> None:
    """Writes metrics.jsonl in a training's folder."""
    out.write_bytes(METRICS, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _broken(out: Store, reason: str) -> UserError:
    return UserError(
        f"{out.uri(METRICS)}: not the metrics of a training ({reason}); delete this training's folder and train again"
    )
