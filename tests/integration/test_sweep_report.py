"""sweep.json: rows, curve, recommended size. The answers are made up here and stand for no measurement."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from paft_ray.config import parse_config
from paft_ray.report.sweep import TrialOutcomes, write_sweep
from paft_ray.storage.store import Store
from tests.support.made_outcomes import outcome_row, outcome_table

LEVELS = {1: 0.70, 2: 0.78, 4: 0.86, 8: 0.86}
CONFIG = parse_config({"name": "t", "task": "demo", "report": {"num_bootstrap": 200}}, source="test")
COUNTS = {"finished": 8, "failed": 0, "reused": 0, "stopped": 0}


def outcomes(name: str, level: float, num_templates: int = 12, num_examples: int = 100) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = []
    for template in range(num_templates):
        right = rng.permutation(num_examples) < round(level * num_examples)
        for example in range(num_examples):
            rows.append(outcome_row(name, f"t{template}", f"e{example}", "a", "a" if right[example] else "b"))
    return outcome_table(rows)


def trial(size: int, seed: int, level: float, **values: object) -> TrialOutcomes:
    name = f"size{size}-subset{seed}" + "".join(f"-{key}" for key in values.get("settings", {}))  # type: ignore[attr-defined]
    return TrialOutcomes(name=name, size=size, subset_seed=seed, outcomes=outcomes(name, level), **values)  # type: ignore[arg-type]


def written(tmp_path: Path, trials: list[TrialOutcomes]) -> dict[str, object]:
    return write_sweep(Store(str(tmp_path / "sweep")), trials, config=CONFIG, starts=(8, 9), counts=COUNTS).values


def test_a_sweep_gives_rows_a_curve_and_a_size(tmp_path: Path) -> None:
    found = written(
        tmp_path, [trial(size, seed, level + 0.02 * seed) for size, level in LEVELS.items() for seed in (1, 0)]
    )
    run = Store(str(tmp_path / "sweep"))
    assert run.read_json("report/sweep.json") == found
    assert [(row["size"], row["seed"]) for row in found["sizes"]] == [(n, s) for n in (1, 2, 4, 8) for s in (0, 1)]
    assert {"size", "seed", "mean", "std", "worst"} <= set(found["sizes"][0])
    assert [round(point["mean"], 3) for point in found["curve"]] == [0.71, 0.79, 0.87, 0.87], "mean over both subsets"
    assert all(point["low"] <= point["mean"] <= point["high"] for point in found["curve"])
    assert (found["engine_starts"], found["planned_engine_starts"], found["trials"]) == (8, 9, COUNTS)
    assert found["recommended_size"] == 4
    assert "every smaller size is more than 1.0 percentage points and one standard error" in found["reason"]
    assert found["fit"]["reason"] is None
    gain = found["gain_over_one_template"]
    assert (gain["size"], gain["num_templates"], gain["mean"]) == (4, 2, pytest.approx(0.16))
    assert gain["low"] < gain["mean"] < gain["high"]
    assert "4 templates against the average of 2 single ones: +16.0 percentage points" in (
        run.read_bytes("report/sweep.md").decode()
    )
    assert 0.86 < found["fit"]["asymptote"] <= 1
    assert run.read_bytes("report/sweep.png").startswith(b"\x89PNG")
    assert b"<svg" in run.read_bytes("report/sweep.svg")
    assert "<h1" in run.read_bytes("report/sweep.html").decode()
    assert "Recommended size: **4**" in run.read_bytes("report/sweep.md").decode()


def test_the_curve_takes_the_setting_with_the_lowest_validation_loss_not_the_best_held_out(tmp_path: Path) -> None:
    good = trial(1, 0, 0.9, settings={"k": 2}, validation_loss=0.7)
    chosen = trial(1, 0, 0.6, settings={"learning_rate": 0.1}, validation_loss=0.3)
    found = written(tmp_path, [good, chosen])
    assert found["curve"][0]["mean"] == pytest.approx(0.6)
    assert [row["on_curve"] for row in found["sizes"]] == [False, True]


def test_below_eight_templates_the_curve_has_no_interval(tmp_path: Path) -> None:
    one = TrialOutcomes(name="one", size=1, subset_seed=0, outcomes=outcomes("one", 0.5, num_templates=7))
    point = written(tmp_path, [one])["curve"][0]
    assert (point["low"], point["high"], point["std"], point["worst"]) == (None, None, None, None)


def test_no_trial_or_outcomes_of_two_arms_are_errors_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one trial"):
        written(tmp_path, [])
    both = pa.concat_tables([outcomes("one", 0.5), outcomes("two", 0.5)])
    with pytest.raises(ValueError, match="outcomes of one arm"):
        written(tmp_path, [TrialOutcomes(name="one", size=1, subset_seed=0, outcomes=both)])
