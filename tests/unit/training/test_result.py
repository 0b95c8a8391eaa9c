"""result.json is what the workers write, or one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from paft_ray.errors import UserError
from paft_ray.storage.store import Store
from paft_ray.training.result import RESULT, StoredResult, read_result, summary

HISTORY = [{"step": step, "loss": 1 / step, "tokens": 10, "truncated_rows": 1, "time_s": 0.5} for step in range(1, 21)]


def stored(**changes: Any) -> dict[str, Any]:
    result = StoredResult(
        fingerprint="0" * 16,
        kind="adapter",
        sha256="a" * 64,
        files={"adapter_model.safetensors": "0" * 64},
        num_steps=20,
        exported_step=20,
        peak_memory_gib=1.0,
        nodes=["127.0.0.1"],
        **summary(HISTORY),
    )
    return {**result.model_dump(), **changes}


def store(folder: Path, value: Any) -> Store:
    run = Store(str(folder))
    run.write_bytes(f"t/{RESULT}", value if isinstance(value, bytes) else json.dumps(value).encode())
    run.write_bytes("t/metrics.jsonl", "".join(json.dumps(row) + "\n" for row in HISTORY).encode())
    return run


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = read_result(store(tmp_path, stored()), "t")
    assert (result.path, result.history) == ("t/adapter", HISTORY)
    assert result.final_loss == pytest.approx((1 / 19 + 1 / 20) / 2)
    assert (result.tokens_per_s, result.time_s, result.truncated_rows) == (20.0, 10.0, 20)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"\xff",
        [],
        7,
        None,
        {},
        stored(kind="../elsewhere"),
        stored(sha256="a" * 63),
        stored(num_steps="20"),
        stored(final_loss=None),
        stored(nodes=[1]),
        stored(other=1),
        {name: value for name, value in stored().items() if name != "exported_step"},
    ],
)
def test_a_broken_result_is_refused_in_one_line(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UserError, match=r"result\.json") as caught:
        read_result(store(tmp_path, value), "t")
    assert "\n" not in str(caught.value)


def test_a_missing_result_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it is missing"):
        read_result(Store(str(tmp_path)), "t")
