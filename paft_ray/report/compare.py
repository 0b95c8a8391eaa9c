"""Runs side by side: figures of every arm, and differences between runs, paired where templates and examples agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paft_ray.config import Config, ReportConfig
from paft_ray.errors import UserError
from paft_ray.metrics import MIN_TEMPLATES_INTERVAL, ArmOutcomes, difference, figures
from paft_ray.report.inputs import Measured
from paft_ray.report.tables import arm_rank
from paft_ray.storage.stage_keys import differences

_FIGURES = ("mean", "std", "worst", "best", "num_templates", "num_examples", "num_seeds")


@dataclass(frozen=True, kw_only=True)
class EvaluatedRun:
    """A run with its evaluation."""

    name: str
    config: Config
    measured: Measured


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One run of a comparison, by arm."""

    run: EvaluatedRun
    arms: dict[str, ArmOutcomes]


def compare(runs: Sequence[EvaluatedRun]) -> dict[str, Any]:
    """`runs`: name -> arms -> figures; `differences`: of every arm that two runs share, first minus second; `settings`:
    what their configurations differ in.

    A difference is `paired` over the cells (template, example) that both runs measured, with the interval of
    `metrics.difference`; else it is that of the two means, without an interval. `num_templates`, `num_examples`: in
    common. Names that come twice get a number. Intervals follow the report section and the seed of the earlier run.
    Raises `UserError` for outcomes that cannot be read.
    """
    sides = [_Side(run=run, arms=_arms(run)) for run in _named(runs)]
    pairs = list(combinations(sides, 2))
    return {
        "runs": {side.run.name: {"arms": {arm: _figures(side, arm) for arm in side.arms}} for side in sides},
        "differences": [
            _difference(first, second, arm) for first, second in pairs for arm in first.arms if arm in second.arms
        ],
        "settings": [
            {
                "first": first.run.name,
                "second": second.run.name,
                "differing": differences(_settings(first.run.config), _settings(second.run.config)),
            }
            for first, second in pairs
        ],
    }


def _named(runs: Sequence[EvaluatedRun]) -> list[EvaluatedRun]:
    """The runs in their order, a later one of the same name as `NAME-2` and so on."""
    taken: set[str] = set()
    found = []
    for run in runs:
        name = next(
            name for n in range(1, len(runs) + 2) if (name := run.name if n == 1 else f"{run.name}-{n}") not in taken
        )
        taken.add(name)
        found.append(replace(run, name=name))
    return found


def _arms(run: EvaluatedRun) -> dict[str, ArmOutcomes]:
    try:
        found = run.measured.arms
    except (KeyError, ValueError) as error:
        raise UserError(f"run {run.name}: its outcomes cannot be read ({error}); run stage evaluate again") from None
    return {arm: found[arm] for arm in sorted(found, key=arm_rank)}


def _figures(side: _Side, arm: str) -> dict[str, Any]:
    found = figures(side.arms[arm], threshold=side.run.config.report.threshold)
    return {name: getattr(found, name) for name in _FIGURES}


def _settings(config: Config) -> dict[str, Any]:
    """Without what says only where a run is."""
    return config.model_dump(mode="json", exclude={"name", "storage"})


def _difference(first: _Side, second: _Side, arm: str) -> dict[str, Any]:
    one, other = _common(first, second, arm)
    num_templates, num_examples = one.correct.shape[1:]
    low = high = None
    paired = num_templates >= MIN_TEMPLATES_INTERVAL and _seeds_pair(one, other)
    if paired:
        report: ReportConfig = first.run.config.report
        rng = np.random.default_rng(first.run.config.seed)
        gap = difference(
            one,
            other,
            rng=rng,
            num_bootstrap=report.num_bootstrap,
            confidence=report.confidence,
            names=(first.run.name, second.run.name),
        )
        mean, low, high = gap.mean, gap.low, gap.high
    else:
        mean = float(first.arms[arm].by_template.mean() - second.arms[arm].by_template.mean())
    return {
        "first": first.run.name,
        "second": second.run.name,
        "arm": arm,
        "mean": mean,
        "low": low,
        "high": high,
        "num_templates": num_templates,
        "num_examples": num_examples,
        "paired": paired,
    }


def _seeds_pair(one: ArmOutcomes, other: ArmOutcomes) -> bool:
    """Seeds are paired by number; a single one stands against every seed of the other."""
    return bool(set(one.seeds) & set(other.seeds)) or 1 in (len(one.seeds), len(other.seeds))


def _common(first: _Side, second: _Side, arm: str) -> tuple[ArmOutcomes, ArmOutcomes]:
    """The arm's outcomes of both runs on the templates and examples of which both measured a cell; an example agrees in
    text and answer, not in id alone."""
    one, other = first.arms[arm], second.arms[arm]
    templates = sorted(set(one.template_ids) & set(other.template_ids))
    known, others = first.run.measured.examples, second.run.measured.examples
    examples = [e for e in sorted(set(one.example_ids) & set(other.example_ids)) if known.get(e) == others.get(e)]
    one, other = _part(one, templates, examples), _part(other, templates, examples)
    both = _measured(one) & _measured(other)
    templates = [templates[t] for t in np.flatnonzero(both.any(axis=1))]
    examples = [examples[e] for e in np.flatnonzero(both.any(axis=0))]
    return _part(one, templates, examples), _part(other, templates, examples)


def _measured(arm: ArmOutcomes) -> NDArray[np.bool_]:
    """Shape [templates, examples]."""
    return np.asarray(~np.isnan(arm.correct).all(axis=0))


def _part(arm: ArmOutcomes, templates: Sequence[str], examples: Sequence[str]) -> ArmOutcomes:
    """The outcomes on these templates and examples."""
    rows, columns = [arm.template_ids.index(t) for t in templates], [arm.example_ids.index(e) for e in examples]
    return replace(
        arm,
        template_ids=tuple(templates),
        example_ids=tuple(examples),
        correct=arm.correct[:, rows][:, :, columns],
        predicted=None,
    )
