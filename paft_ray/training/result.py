"""result.json of a training: what rank 0 leaves once the weights are written, and what the driver reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from paft_ray.errors import UserError, first_fault
from paft_ray.storage.store import Store
from paft_ray.training.step_metrics import read_metrics

RESULT = "result.json"
Kind = Literal["adapter", "weights"]
"""What was written: a PEFT adapter, or a model folder after full fine-tuning."""


class StoredResult(BaseModel):
    """Contents of result.json."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    fingerprint: str = Field(pattern=r"^[0-9a-f]{16}$")
    """Names the folders of its checkpoints and of its audit log."""
    kind: Kind
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Over names and digests of `files`."""
    files: dict[str, str]
    """Path relative to the folder of the weights -> SHA-256."""
    num_steps: PositiveInt
    exported_step: PositiveInt
    """Optimizer steps behind the exported weights."""
    final_loss: float
    """Mean loss per answer token over the last tenth of the steps."""
    tokens_per_s: float
    """Tokens of prompts and answers, all workers together, over the time of the steps."""
    time_s: float
    """Seconds in optimizer steps, without starts and checkpoints."""
    peak_memory_gib: float
    """Of the largest worker, trainings before this one in the same group included."""
    truncated_rows: NonNegativeInt
    """Rows whose fields were truncated to keep to `model.max_prompt_tokens`."""
    nodes: list[str]
    """Address of the node of each worker, by rank, as the training ended."""


class TrainResult(StoredResult):
    """A finished training."""

    path: str
    """Folder of the weights, relative to the run."""
    history: list[dict[str, Any]]
    """Metrics of every step in the lineage of the weights."""


def summary(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Entries of `StoredResult` that follow from the metrics of all steps."""
    last = history[-max(1, len(history) // 10) :]
    time_s = sum(row["time_s"] for row in history)
    return {
        "final_loss": sum(row["loss"] for row in last) / len(last),
        "tokens_per_s": sum(row["tokens"] for row in history) / time_s,
        "time_s": time_s,
        "truncated_rows": sum(row["truncated_rows"] for row in history),
    }


def read_result(run: Store, folder: str) -> TrainResult:
    """The result that the workers left in a folder of the run. Raises `UserError` for a file that is missing or is not
    what they write."""
    out = run.below(folder)
    try:
        stored = StoredResult.model_validate(out.read_json(RESULT))
    except FileNotFoundError:
        raise _broken(out, "it is missing") from None
    except ValidationError as error:
        raise _broken(out, first_fault(error)) from None
    return TrainResult(**stored.model_dump(), path=f"{folder}/{stored.kind}", history=read_metrics(out))


def _broken(out: Store, reason: str) -> UserError:
    return UserError(f"{out.uri(RESULT)}: not the result of a training ({reason}); delete it and train again")
