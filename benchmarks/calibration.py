"""The calibration control of a finished run: the most probable label of every arm without and with calibration, over
the measured rows themselves (transductive) and, where given, over validation rows alone.

    python -m benchmarks.calibration files runs/sst2 OUT       # templates.jsonl and validation.jsonl of the run
    paft evaluate runs/sst2 --templates OUT/templates.jsonl --test OUT/validation.jsonl --out OUT/validation
    python -m benchmarks.calibration show runs/sst2 [OUT/validation]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from paft_ray.metrics import ArmOutcomes
from paft_ray.metrics.calibration import calibrated_arms, most_probable_arms
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.artifacts import OUTCOMES, PROMPT_SET, ROWS
from paft_ray.storage.store import Store


def write_files(run: Store, out: Path) -> None:
    """The run's held-out templates, and its validation rows in the form of the task's data."""
    task = ResolvedRun.load(run).task
    out.mkdir(parents=True, exist_ok=True)
    templates = [
        {"text": template.text, **({"system": template.system} if template.system else {})}
        for template in PROMPT_SET.read(run).split("held_out").templates
    ]
    value_of = {label: value for value, label in task.labels.items()}
    rows = []
    for row in ROWS["validation"].read(run).to_pylist():
        fields = {task.columns.get(name, name): text for name, text in row["fields"].items()}
        rows.append({"id": row["id"], **fields, task.answer: value_of[row["answer"]]})
    for name, lines in (("templates.jsonl", templates), ("validation.jsonl", rows)):
        (out / name).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def show(run: Store, validation: str | None) -> None:
    """Prints mean, std and worst over templates, in percent, of every arm and its controls."""
    labels, table = ResolvedRun.load(run).task.label_texts, OUTCOMES.read(run)
    batch = pq.read_table(f"{validation}/outcomes.parquet") if validation else None
    _line("most probable label", most_probable_arms(table, labels))
    _line("calibrated over the test rows (transductive)", calibrated_arms(table, labels))
    if batch is not None:
        _line("calibrated over validation rows", calibrated_arms(table, labels, batch))


def _line(title: str, arms: Any) -> None:
    print(title)
    for name, arm in arms.items():
        mean, std, worst = _figures(arm)
        print(f"  {name:20} {mean:5.1f} %  std {std:4.1f}  worst {worst:5.1f} %")


def _figures(arm: ArmOutcomes) -> np.ndarray:
    """Mean, std and worst over templates, in percent, averaged over seeds. Shape [3]."""
    accuracies = np.nanmean(arm.correct, axis=2)
    return np.array([accuracies.mean(), accuracies.std(axis=1, ddof=1).mean(), accuracies.min(axis=1).mean()]) * 100


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("what", choices=("files", "show"))
    parser.add_argument("run")
    parser.add_argument("folder", nargs="?")
    given = parser.parse_args()
    if given.what == "files":
        write_files(Store(given.run), Path(given.folder or "validation"))
    else:
        show(Store(given.run), given.folder)
