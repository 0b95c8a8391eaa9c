"""What rank 0 reports: lines that name arm and seed, and nothing left on the node of attempts that were killed."""

import tempfile
from pathlib import Path
from typing import Any

import pytest

from paft_ray.storage.store import Store
from paft_ray.tracking.trackers import Trackers
from paft_ray.training.metrics_writer import MetricsWriter
from paft_ray.training.step_metrics import read_metrics


def writer(out: Store, start: int, settings: str = "a") -> MetricsWriter:
    """Of a training of some settings."""
    return MetricsWriter(
        out,
        checkpoints=out.below(f"checkpoints/{settings}"),
        label="[train paft/seed0]",
        start_step=start,
        num_steps=4,
        trackers=Trackers(None),
    )


def row(step: int, loss: float) -> dict[str, Any]:
    return {
        "step": step,
        "loss": float(loss),
        "grad_norm": None,
        "tokens": 1,
        "truncated_rows": 0,
        "tokens_per_s": 1.0,
        "time_s": 1.0,
    }


def test_a_resumed_training_goes_on_with_its_own_metrics(tmp_path: Path) -> None:
    out = Store(str(tmp_path / "run"))
    for settings, loss, steps in (("a", 1, (1, 2)), ("b", 9, (1,))):
        begun = writer(out, 0, settings)
        for step in steps:
            begun.add(row(step, loss))
        begun.save(steps[-1])
        begun.close()
    resumed = writer(out, 2)
    assert [found["loss"] for found in read_metrics(out)] == [1.0, 1.0], "also where no step is left"
    resumed.add(row(3, 1))
    resumed.save(3)
    resumed.close()
    assert [(found["step"], found["loss"]) for found in read_metrics(out)] == [(1, 1.0), (2, 1.0), (3, 1.0)]


def test_the_events_of_a_killed_attempt_are_gone_and_its_repeated_steps_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    out = Store(str(tmp_path / "run"))
    for start, attempt in ((0, 1), (2, 2)):
        progress = writer(out, start)
        for step in range(start + 1, 4 + 1):
            progress.add(row(step, attempt))
            if attempt == 1 and step == 3:  # killed: never closed, its step 3 has no checkpoint
                progress.save(2)  # waits for the thread that writes events: here it outlives the "killed" attempt
                break
            progress.save(step)
    assert [(row["step"], row["loss"]) for row in read_metrics(out)] == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]
    progress.close()
    lines = [line.partition(" ")[2].partition("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "[train paft/seed0] step 1/4",
        "[train paft/seed0] resuming from checkpoint at step 2",
        "[train paft/seed0] step 3/4",
        "[train paft/seed0] step 4/4",
    ]
    assert not list((tmp_path / "tmp").iterdir())
    assert sorted(path.name for path in Path(out.path("tensorboard")).iterdir()) == [
        "from-step-000000",
        "from-step-000002",
    ]
