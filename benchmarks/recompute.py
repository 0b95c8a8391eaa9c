"""Recomputes the figures of a run's report/results.json from its Parquet files, with pandas and scipy alone.

`python -m benchmarks.recompute RUN [RUN ...]` reads evaluate/outcomes.parquet, synthesize/prompt_set.parquet and
config.json of each run, prints every figure that differs by more than 1e-9 (exit code 1), how many agree, and which
fractional numbers of results.json it does not derive (timings, memory). Nothing of `paft_ray` is imported: the formulas
stand in recompute_formulas.py a second time, after the documentation (docs/evaluation.md; the scheme of bootstrap
draws: paft_ray/metrics/bootstrap.py). A budgeted run is refused: its figures are estimates by an item-response
model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.recompute_formulas import (
    Settings,
    Values,
    arm_figures,
    balanced,
    calibrated,
    collapsed,
    corrected,
    difference,
    grids,
    most_probable,
    pair_spread,
    scored,
    speed,
)

TOLERANCE = 1e-9
ORDER = ("base", "sft", "top_accuracy", "paft")


def rank(arm: str) -> tuple[int, str]:
    """Order of arms."""
    return (ORDER.index(arm) if arm in ORDER else len(ORDER), arm)


def pairs(arms: list[str]) -> list[tuple[str, str]]:
    """Later arm first; paft - sft opens, then paft against the others."""
    found = [(later, earlier) for earlier, later in combinations(arms, 2)]
    return sorted(found, key=lambda pair: (pair != ("paft", "sft"), pair[0] != "paft"))


class MeasureGrids:
    """The grids of all arms by one measure, on some templates."""

    def __init__(self, outcomes: pd.DataFrame, measure: str, templates: list[str], settings: Settings) -> None:
        rows = scored(outcomes, measure)
        examples = sorted(outcomes["example_id"].unique())
        self.settings = settings
        self.rows = {arm: part[part["template_id"].isin(templates)] for arm, part in rows.groupby("arm", sort=False)}
        self.rows = {arm: self.rows[arm] for arm in sorted(self.rows, key=rank)}
        self.grids = {arm: grids(part, templates, examples) for arm, part in self.rows.items()}
        self.seeds = {arm: sorted(part["seed"].unique()) for arm, part in self.rows.items()}

    def paired(self, first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
        """Both grids on common seeds; a single seed stands against all."""
        common = [seed for seed in self.seeds[first] if seed in self.seeds[second]]
        if not common:
            return self.grids[first], self.grids[second]
        one, other = ([self.seeds[arm].index(seed) for seed in common] for arm in (first, second))
        return self.grids[first][one], self.grids[second][other]

    def share_seeds(self, first: str, second: str) -> bool:
        """Some training seed is in both."""
        return bool(set(self.seeds[first]) & set(self.seeds[second]))

    def differences(self) -> dict[str, Values]:
        """`FIRST-SECOND` -> figures, corrected."""
        gaps = {
            f"{first}-{second}": {
                "first": first,
                "second": second,
                **difference(*self.paired(first, second), self.settings),
            }
            for first, second in pairs(list(self.grids))
        }
        return corrected(gaps, self.settings)

    def arms(self) -> dict[str, Values]:
        """Arm -> figures."""
        return {arm: arm_figures(grid, self.rows[arm], self.settings) for arm, grid in self.grids.items()}


def recomputed(
    outcomes: pd.DataFrame, groups: Mapping[str, str], labels: list[str], speeds: Values, settings: Settings
) -> Values:
    """What results.json should hold, from the rows, the group of each template, the labels where calibration was asked
    for, and what evaluate/speed.json measured."""
    measures = ["behavior", "strict"] if outcomes["behavior"].notna().any() else []
    has_labels = bool(outcomes["label_logprobs"].notna().any())
    if not measures or has_labels:
        measures.append("knowledge")
    templates = sorted(outcomes["template_id"].unique())
    by_measure = {measure: MeasureGrids(outcomes, measure, templates, settings) for measure in measures}
    rows = {measure: each.arms() for measure, each in by_measure.items()}
    gaps = {measure: each.differences() for measure, each in by_measure.items()}
    for measure, each in by_measure.items():
        for arm, part in each.rows.items():
            rows[measure][arm]["balanced_accuracy"] = balanced(part) if has_labels else None
            rows[measure][arm]["collapsed"] = collapsed(part)
    main, *others = measures
    primary = next((name for name, gap in gaps[main].items() if gap["is_primary"]), next(iter(gaps[main]), None))
    found: Values = {"headline": main, "confidence": settings.confidence, "primary": primary}
    found |= {"arms": {}, "differences": {}}
    for arm, row in rows[main].items():
        part = outcomes[outcomes["arm"] == arm]
        asked, measured = part[part["behavior"].notna()], speed(speeds, arm)
        rates = {
            "label_mass": float(part["label_mass"].astype(float).mean()) if part["label_mass"].notna().any() else None,
            "named_rate": float(asked["named"].notna().mean()) if has_labels and len(asked) else None,
            "label_ended_rate": float((asked["named"].notna() & (asked["num_tokens"] == 1)).mean())
            if has_labels and len(asked)
            else None,
            **{f"{name}_per_answer": amount["value"] for name, amount in measured.items()},
            "speed": measured,
        }
        found["arms"][arm] = {**row, **rates, "measures": {measure: rows[measure][arm] for measure in measures}}
    for name, gap in gaps[main].items():
        first, second = gap["first"], gap["second"]
        each = by_measure[main]
        found["differences"][name] = {
            **gap,
            **pair_spread(*each.paired(first, second), settings, same_seeds=each.share_seeds(first, second)),
            "measures": {m: {key: gaps[m][name][key] for key in ("mean", "low", "high")} for m in others},
        }
    found["groups"] = of_groups(outcomes, groups, measures, settings)
    if labels and outcomes["label_logprobs"].notna().all():
        found |= of_calibration(outcomes, labels, gaps[main][primary] if primary else None, settings)
    return found


def of_calibration(outcomes: pd.DataFrame, labels: list[str], primary: Values | None, settings: Settings) -> Values:
    """Figures of the most probable label without and with calibration, and the primary difference: without, against
    the calibrated second arm, and of both calibrated."""
    rows = pd.concat([most_probable(outcomes, labels), calibrated(outcomes, labels)], ignore_index=True)
    both = MeasureGrids(rows, "knowledge", sorted(outcomes["template_id"].unique()), settings)
    figures = both.arms()
    found: Values = {
        "most_probable": {arm: row for arm, row in figures.items() if not arm.endswith("+cal")},
        "calibration": {arm: row for arm, row in figures.items() if arm.endswith("+cal")},
    }
    if primary:
        first, second = primary["first"], primary["second"]
        gaps = {
            f"{one}-{other}": difference(*both.paired(one, other), settings)
            for one, other in (
                (first, second),
                (first, f"{second}+cal"),
                (f"{first}+cal", f"{second}+cal"),
            )
        }
        found["calibration_differences"] = {
            name: {key: gap[key] for key in ("mean", "low", "high")} for name, gap in gaps.items()
        }
    return found


def of_groups(outcomes: pd.DataFrame, groups: Mapping[str, str], measures: list[str], settings: Settings) -> Values:
    """Group -> arms and differences on its templates."""
    templates = sorted(outcomes["template_id"].unique())
    if not any(template in groups for template in templates):
        return {}
    found: Values = {}
    for group in sorted({groups.get(template, "other") for template in templates}):
        members = [template for template in templates if groups.get(template, "other") == group]
        by_measure = {measure: MeasureGrids(outcomes, measure, members, settings) for measure in measures}
        main, *others = measures
        rows, gaps = ({m: getattr(each, name)() for m, each in by_measure.items()} for name in ("arms", "differences"))
        keys = ("mean", "low", "high")
        found[group] = {
            "num_templates": len(members),
            "arms": {
                arm: {
                    **row,
                    "measures": {m: {k: rows[m][arm][k] for k in (*keys, "std", "decile", "worst")} for m in measures},
                }
                for arm, row in rows[main].items()
            },
            "differences": {
                name: {
                    **{k: gap[k] for k in keys},
                    "measures": {m: {k: gaps[m][name][k] for k in keys} for m in others},
                }
                for name, gap in gaps[main].items()
            },
        }
    return found


def leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of every number, truth value, text and null, and how long lists are."""
    if isinstance(values, list):
        yield f"{path}.length", len(values)
        values = dict(enumerate(values))
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, values


def agrees(given: Any, ours: Any) -> bool:
    """Equal, numbers to 1e-9."""
    if isinstance(given, bool | str) or given is None or ours is None:
        return bool(given == ours)
    return abs(float(given) - float(ours)) <= TOLERANCE


def compare(results: Values, ours: Values) -> tuple[list[str], int, list[str]]:
    """(what differs, how many figures agree, numbers of results.json that are not derived here)."""
    given, derived = dict(leaves(results)), dict(leaves(ours))
    absent = object()
    differing = [
        f"{path}: results.json {given.get(path, 'nothing')}, recomputed {value}"
        for path, value in derived.items()
        if given.get(path, absent) is absent or not agrees(given[path], value)
    ]
    rest = [path for path, value in given.items() if path not in derived and isinstance(value, float)]
    return differing, len(derived) - len(differing), rest


def check(run: Path) -> tuple[list[str], int, list[str]]:
    """`compare` for a run. Exits for a budgeted one."""
    results = json.loads((run / "report" / "results.json").read_text())
    if any("estimated" in arm for arm in results["arms"].values()):
        sys.exit(f"{run}: evaluation was budgeted; only complete grids are recomputed")
    config = json.loads((run / "config.json").read_text())
    outcomes = pd.read_parquet(run / "evaluate" / "outcomes.parquet")
    prompts = pd.read_parquet(run / "synthesize" / "prompt_set.parquet")
    provenance = [json.loads(text) for text in prompts["provenance"]]
    groups = {
        template: str(source["group"])
        for template, source in zip(prompts["id"], provenance, strict=True)
        if source.get("group")
    }
    task, speeds = (
        {} if not path.exists() else json.loads(path.read_text())
        for path in (run / "task.json", run / "evaluate" / "speed.json")
    )
    labels = labels_of(task) if config.get("evaluate", {}).get("calibration") else []
    return compare(results, recomputed(outcomes, groups, labels, speeds, Settings(config)))


def labels_of(task: Values) -> list[str]:
    """A task's labels in their order; several values of the data may stand for one."""
    return list(dict.fromkeys(task.get("labels", {}).values()))


def main(runs: list[str]) -> int:
    """Exit code."""
    failed = False
    for run in runs:
        differing, agreeing, rest = check(Path(run))
        print(f"{run}: {agreeing} figures agree to {TOLERANCE:g}, {len(differing)} differ", *differing, sep="\n  ")
        print(f"  not derived here: {', '.join(rest) or 'nothing'}")
        failed |= bool(differing)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
