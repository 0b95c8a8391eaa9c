"""metrics.jsonl is what a training writes, or one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from paft_ray.errors import UserError
from paft_ray.storage.store import Store
from paft_ray.training.step_metrics import METRICS, read_metrics, write_metrics

ROW = {
    "step": 1,
    "loss": 0.5,
    "grad_norm": None,
    "tokens": 3,
    "truncated_rows": 0,
    "time_s": 0.1,
    "validation_loss": 1.0,
}


def test_metrics_are_read_as_they_were_written(tmp_path: Path) -> None:
    out = Store(str(tmp_path))
    assert read_metrics(out) == []
    write_metrics(out, [ROW, {**ROW, "step": 2}])
    assert read_metrics(out) == [ROW, {**ROW, "step": 2}]


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b"\xff",
        b"[" * 100_000,
        [],
        1,
        None,
        {**ROW, "step": "1"},
        {**ROW, "step": 0},
        {**ROW, "loss": None},
        {**ROW, "time_s": -1.0},
        {**ROW, "validation_loss": "low"},
        {name: value for name, value in ROW.items() if name != "truncated_rows"},
    ],
)
def test_broken_metrics_are_refused_in_one_line(tmp_path: Path, value: Any) -> None:
    out = Store(str(tmp_path))
    out.write_bytes(METRICS, value if isinstance(value, bytes) else json.dumps(value).encode())
    with pytest.raises(UserError, match=r"metrics\.jsonl") as caught:
        read_metrics(out)
    assert "\n" not in str(caught.value)
