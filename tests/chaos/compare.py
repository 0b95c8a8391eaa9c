"""What a run lost, did twice or made otherwise than an uninterrupted one, stage by stage, from its artifacts."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

_TOLERANCE = 1e-2
"""Of log-probabilities in nats: vLLM's sums depend on which rows it answers together, and on the process. On a CPU with
AMX one of four undisturbed evaluations in fp32 differed from the others in every row, by at most 0.0031, and in no
answer."""
_TABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "prepare": {f"prepare/{name}.parquet": ("id",) for name in ("train", "validation", "test")},
    "synthesize": {"synthesize/prompt_set.parquet": ("id",)},
    "score": {"score/scores.parquet": ("template_id",)},
    "evaluate": {"evaluate/outcomes.parquet": ("arm", "seed", "template_id", "example_id")},
}
"""Stage -> table -> columns that name a row."""
_AUDIT = "audit/*/steps-*.parquet"
"""Files of a training's audit log, one row for each use of an example."""
STAGES = ("prepare", "synthesize", "score", "train", "evaluate", "report")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Found against the uninterrupted run."""

    lost: int = 0
    """Rows that it has and this run lacks."""
    repeated: int = 0
    """Rows that this run has more often."""
    changed: tuple[str, ...] = ()
    """Artifacts whose content differs otherwise."""

    def __add__(self, other: Difference) -> Difference:
        return Difference(
            lost=self.lost + other.lost, repeated=self.repeated + other.repeated, changed=self.changed + other.changed
        )


def compare(stage: str, reference: Path, found: Path) -> Difference:
    """The difference in what `stage` made; both are folders of runs."""
    if not (found / stage / "manifest.json").exists():
        return Difference(changed=(f"{stage}/manifest.json is missing",))
    if stage == "train":
        return _trainings(reference, found)
    if stage == "report":
        return _difference(
            "report/results.json",
            *(dict(_leaves(json.loads((run / "report/results.json").read_text()))) for run in (reference, found)),
        )
    return sum(
        (_tables(reference / name, found / name, name, keys) for name, keys in _TABLES[stage].items()), Difference()
    )


def _trainings(reference: Path, found: Path) -> Difference:
    """Examples by position where the training keeps an audit log, steps of metrics.jsonl (each stands for a batch), and
    the bytes of the adapter."""
    total = Difference()
    for model in json.loads((reference / "train/manifest.json").read_text())["models"]:
        folder = f"train/{model['arm']}-s{model['seed']}"
        total += _steps(reference / folder, found / folder, folder)
        ours = found / folder / "adapter/adapter_model.safetensors"
        if (
            not ours.exists()
            or ours.read_bytes() != (reference / folder / "adapter/adapter_model.safetensors").read_bytes()
        ):
            total += Difference(changed=(f"{folder}/adapter",))
    return total


def _steps(reference: Path, found: Path, name: str) -> Difference:
    """A step is known by its loss, to the bit; a use by position, example and template."""
    rows = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (reference, found)
    ]
    losses = [{row["step"]: row["loss"] for row in run} for run in rows]
    other = [step for step, loss in losses[1].items() if step in losses[0] and loss != losses[0][step]]
    if any(reference.glob(_AUDIT)):
        uses, each = [_uses(run) for run in (reference, found)], 1
    else:
        uses = [Counter(row["step"] for row in run) for run in rows]
        each = json.loads((reference.parents[1] / "config.json").read_text())["train"]["global_batch"]
    return Difference(
        lost=(uses[0] - uses[1]).total() * each,
        repeated=(uses[1] - uses[0]).total() * each,
        changed=(f"{name}/metrics.jsonl: loss of step {other[0]} and {len(other) - 1} more",) if other else (),
    )


def _uses(training: Path) -> Counter[Any]:
    tables = [pq.read_table(path, columns=["position", "example_id", "template"]) for path in training.glob(_AUDIT)]
    return Counter(tuple(row.values()) for table in tables for row in table.to_pylist())


def _tables(reference: Path, found: Path, name: str, keys: tuple[str, ...]) -> Difference:
    tables = [pq.read_table(path).to_pylist() if path.exists() else [] for path in (reference, found)]
    counts = [Counter(tuple(str(row[key]) for key in keys) for row in rows) for rows in tables]
    values = [{tuple(str(row[key]) for key in keys): row for row in rows} for rows in tables]
    return Difference(lost=(counts[0] - counts[1]).total(), repeated=(counts[1] - counts[0]).total()) + _changed(
        name, *values
    )


def _difference(name: str, reference: Mapping[Any, Any], found: Mapping[Any, Any]) -> Difference:
    return Difference(
        lost=len(reference.keys() - found.keys()), repeated=len(found.keys() - reference.keys())
    ) + _changed(name, reference, found)


def _changed(name: str, reference: Mapping[Any, Any], found: Mapping[Any, Any]) -> Difference:
    other = [key for key in reference if key in found and not _alike(reference[key], found[key])]
    return Difference(changed=(f"{name}: {len(other)} rows, such as {other[0]}",) if other else ())


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=0, abs_tol=_TOLERANCE) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything in nested JSON."""
    parts: Iterable[tuple[Any, Any]] = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    if isinstance(value, dict | list):
        for key, part in parts:
            yield from _leaves(part, f"{path}/{key}")
    else:
        yield path, value
