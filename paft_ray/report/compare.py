"""Runs side by side: figures of every arm, and differences between runs, paired where templates and examples agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

from paft_ray.config import Config
from paft_ray.errors import UserError
from paft_ray.metrics import (
    MIN_TEMPLATES_INTERVAL,
    ArmOutcomes,
    Difference,
    Measure,
    corrected,
    difference,
    figures,
    have_common_seeds,
    on_common_seeds,
)
from paft_ray.report.answers import label_rates
from paft_ray.report.arm_figures import common_cells, part_of, short_row, spread_row
from paft_ray.report.arm_order import ordered
from paft_ray.report.budget import estimated_rows, estimates
from paft_ray.report.inputs import Measured
from paft_ray.storage.stage_keys import differences
from paft_ray.tasks.task import Example

if TYPE_CHECKING:
    from paft_ray.metrics.budget import GridEstimate

_Arms = tuple[ArmOutcomes, ArmOutcomes]
_FIGURES = ("mean", "std", "worst", "best", "num_templates", "num_examples", "num_seeds")


@dataclass(frozen=True, kw_only=True)
class EvaluatedRun:
    """A run with its evaluation."""

    name: str
    config: Config
    measured: Measured


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One run of a comparison."""

    run: EvaluatedRun
    by_measure: Mapping[Measure, Mapping[str, ArmOutcomes]]
    """Measure -> arm -> outcomes, the headline first."""

    @property
    def arms(self) -> Mapping[str, ArmOutcomes]:
        """By the headline measure."""
        return next(iter(self.by_measure.values()))

    @cached_property
    def whole(self) -> Mapping[Measure, tuple[Mapping[str, ArmOutcomes], Mapping[str, GridEstimate]]]:
        """Measure -> (arms on the whole grid, their estimates where only a part of the cells was asked)."""
        return {measure: self.on_grid(arms) for measure, arms in self.by_measure.items()}

    def on_grid(self, arms: Mapping[str, ArmOutcomes]) -> tuple[Mapping[str, ArmOutcomes], Mapping[str, GridEstimate]]:
        """As `estimates`."""
        config = self.run.config
        return estimates(self.run.measured, arms, confidence=config.report.confidence, seed=config.seed)


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """An arm of one run and an arm of another."""

    first: _Side
    second: _Side
    arms: tuple[str, str]

    @property
    def arm(self) -> str:
        """The name that both have, else `FIRST:SECOND`."""
        return self.arms[0] if self.arms[0] == self.arms[1] else ":".join(self.arms)

    @cached_property
    def whole(self) -> Mapping[Measure, _Arms]:
        """Measure that both runs hold, the headline first -> both arms, on their common seeds where seeds pair."""
        found: dict[Measure, _Arms] = {}
        for measure, arms in self.first.by_measure.items():
            if measure in self.second.by_measure:
                one, other = arms[self.arms[0]], self.second.by_measure[measure][self.arms[1]]
                found[measure] = on_common_seeds(one, other)
        return found

    @cached_property
    def common(self) -> Mapping[Measure, _Arms]:
        """The same on the templates and examples of which both measured a cell."""
        known, others = self.first.run.measured.examples, self.second.run.measured.examples
        return {measure: _common(*arms, known, others) for measure, arms in self.whole.items()}


def compare(runs: Sequence[EvaluatedRun], arms: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """`headline`: the measure of all figures that name none; `runs`: name -> arms -> figures; `differences`: first
    minus second; `settings`: what their configurations differ in.

    `arms`: (arm of the earlier run, arm of the later one), any of either; default: every arm that both have. A
    difference is `paired` over the cells (template, example) that both runs measured, with interval, p (`p_adjusted`:
    corrected for all differences here, Holm), ratio of stds and difference of the lowest deciles; `measures` has the
    other measures that both runs hold. Else it is that of the two means, without an interval. `no_interval` says why
    there is none. `first_seeds`, `second_seeds`: those that all figures of a difference are of, the common ones where
    there are any. `num_templates`, `num_examples`: in common. Names that come twice get a number. Intervals follow the
    report section and the seed of the earlier run. Raises `UserError` for outcomes that cannot be read, and for an arm
    that a run lacks.
    """
    sides = [_Side(run=run, by_measure=_by_measure(run)) for run in _named(runs)]
    headline = _headline(sides)
    pairs = [pair for one, other in combinations(sides, 2) for pair in _pairs(one, other, arms)]
    gaps = {number: _gap(pair, headline) for number, pair in enumerate(pairs)}
    tested = corrected({str(number): gap for number, gap in gaps.items() if gap is not None})
    return {
        "headline": headline,
        "runs": {side.run.name: {"arms": _figures(side, headline)} for side in sides},
        "differences": [_row(pair, headline, tested.get(str(number))) for number, pair in enumerate(pairs)],
        "settings": [
            {
                "first": first.run.name,
                "second": second.run.name,
                "differing": differences(_settings(first.run.config), _settings(second.run.config)),
            }
            for first, second in combinations(sides, 2)
        ],
    }


def _headline(sides: Sequence[_Side]) -> Measure:
    """The first measure that every run holds. Raises `UserError` where there is none."""
    for measure in sides[0].by_measure:
        if all(measure in side.by_measure for side in sides):
            return measure
    raise UserError("paft compare: the runs have no measure in common; compare runs of tasks of one kind")


def _pairs(first: _Side, second: _Side, arms: Sequence[tuple[str, str]]) -> list[_Pair]:
    """Raises `UserError` for an arm that a run lacks."""
    for given in arms:
        for side, arm in zip((first, second), given, strict=True):
            if arm not in side.arms:
                raise UserError(
                    f"--arms {':'.join(given)}: run {side.run.name} has no arm {arm}; its arms are "
                    f"{', '.join(side.arms)}"
                )
    which = arms or [(arm, arm) for arm in first.arms if arm in second.arms]
    return [_Pair(first=first, second=second, arms=names) for names in which]


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


def _by_measure(run: EvaluatedRun) -> dict[Measure, dict[str, ArmOutcomes]]:
    try:
        return {measure: ordered(arms) for measure, arms in run.measured.by_measure.items()}
    except (KeyError, ValueError) as error:
        raise UserError(f"run {run.name}: its outcomes cannot be read ({error}); run stage evaluate again") from None


def _figures(side: _Side, headline: Measure) -> dict[str, dict[str, Any]]:
    """Arm -> figures by the headline measure, mean by each, and fraction of answers that name a label; of the whole
    grid, also where only a part of the cells was asked: then estimates, and None for what needs every cell."""
    measured, config = side.run.measured, side.run.config
    rates, rows = label_rates(measured), {}
    filled, estimated = side.whole[headline]
    for arm, outcomes in filled.items():
        found = figures(outcomes, threshold=config.report.threshold)
        means = {
            measure: float(arms[arm].by_template.mean()) for measure, (arms, _) in side.whole.items() if arm in arms
        }
        rows[arm] = {
            **{name: getattr(found, name) for name in _FIGURES},
            "decile": found.decile,
            "named_rate": rates[arm]["named_rate"],
            "measures": {measure: {"mean": mean} for measure, mean in means.items()},
        }
    kept = ("measures", "named_rate")
    return {
        arm: {**row, **{name: rows[arm][name] for name in kept}} for arm, row in estimated_rows(rows, estimated).items()
    }


def _settings(config: Config) -> dict[str, Any]:
    """Without what says only where a run is."""
    return config.model_dump(mode="json", exclude={"name", "storage"})


def _gap(pair: _Pair, measure: Measure) -> Difference | None:
    """The paired difference; None where there are too few common templates or no common seed."""
    one, other = pair.common[measure]
    if _unpaired(pair, measure):
        return None
    names = (pair.first.run.name, pair.second.run.name)
    return difference(one, other, confidence=pair.first.run.config.report.confidence, names=names)


def _row(pair: _Pair, headline: Measure, gap: Difference | None) -> dict[str, Any]:
    one, other = pair.common[headline]
    num_templates, num_examples = one.correct.shape[1:]
    row: dict[str, Any] = {
        "first": pair.first.run.name,
        "second": pair.second.run.name,
        "arm": pair.arm,
        "first_arm": pair.arms[0],
        "second_arm": pair.arms[1],
        "first_seeds": list(one.seeds),
        "second_seeds": list(other.seeds),
        "mean": _gap_of_means(pair, headline),
        "low": None,
        "high": None,
        "p_value": None,
        "p_adjusted": None,
        "decisive": False,
        "std_ratio": None,
        "decile": None,
        "measures": {},
        "num_templates": num_templates,
        "num_examples": num_examples,
        "paired": gap is not None,
        "no_interval": gap.insufficient_data_reason if gap else _unpaired(pair, headline),
    }
    if gap is None:
        return row
    config = pair.first.run.config
    gaps = {measure: _gap(pair, measure) for measure in pair.common if measure != headline}
    return {
        **row,
        **short_row(gap),
        **{name: getattr(gap, name) for name in ("p_value", "p_adjusted", "decisive")},
        **spread_row(one, other, config.report, config.seed),
        "measures": {measure: short_row(found) for measure, found in gaps.items() if found is not None},
    }


def _gap_of_means(pair: _Pair, measure: Measure) -> float:
    one, other = (
        side.on_grid({arm: outcomes})[0][arm]
        for side, arm, outcomes in zip((pair.first, pair.second), pair.arms, pair.whole[measure], strict=True)
    )
    return float(one.by_template.mean() - other.by_template.mean())


def _unpaired(pair: _Pair, measure: Measure) -> str | None:
    """Why two arms on their common cells are not paired."""
    first, second = pair.whole[measure]
    one, other = pair.common[measure]
    least = MIN_TEMPLATES_INTERVAL
    if not one.example_ids and len({*first.template_ids} & {*second.template_ids}) >= least:
        return "no cell of a common test row"
    if (num := len(one.template_ids)) < least:
        return f"{num} common templates, at least {least} are needed"
    return None if have_common_seeds(one, other) else "no common training seed"


def _common(one: ArmOutcomes, other: ArmOutcomes, known: Mapping[str, Example], others: Mapping[str, Example]) -> _Arms:
    """The outcomes of both arms on the templates and examples of which both measured a cell; an example agrees in text
    and answer (`known`, `others`: those of either run), not in id alone."""
    agreed = [e for e in sorted(set(one.example_ids) & set(other.example_ids)) if known.get(e) == others.get(e)]
    return common_cells(part_of(one, one.template_ids, agreed), part_of(other, other.template_ids, agreed))
