"""Robustness figures over templates and paired bootstrap intervals: pure functions of arrays of right and wrong answers.

Accuracies are fractions. Axes are always [seeds, templates, examples].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_TEMPLATES = 12
"""With fewer templates std, worst and intervals say little about templates in general, and are refused."""
_ROUNDING = 1e-9  # a mean of three 0.8 is 0.8000000000000002
_NOT_PARSED, _MISSING = -1, -2
_BLOCK = 256  # bootstrap draws computed at once: bounds the memory of the resampling weights


@dataclass(frozen=True, kw_only=True)
class ArmOutcomes:
    """Right and wrong answers of one arm."""

    template_ids: tuple[str, ...]
    example_ids: tuple[str, ...]
    seeds: tuple[int, ...]
    correct: NDArray[np.float64]
    """Shape [seeds, templates, examples]: 1, 0, or NaN where the row failed."""
    predicted: NDArray[np.int64] | None = None
    """Same shape: code of the predicted text, -1 not parsed, -2 row failed. None: not known."""

    @property
    def by_template(self) -> NDArray[np.float64]:
        """Accuracy per template, averaged over seeds. Shape [templates]. Raises `ValueError` for a template without any outcome."""
        present = ~np.isnan(self.correct)
        counts = present.sum(axis=2)
        if (counts == 0).any():
            missing = sorted({self.template_ids[t] for t in np.nonzero(counts == 0)[1]})
            raise ValueError(f"no outcomes for template {', '.join(missing)}")
        return np.asarray((np.nansum(self.correct, axis=2) / counts).mean(axis=0))


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Robustness figures of one arm; accuracies in [0, 1]."""

    mean: float
    """Mean over templates of the accuracy."""
    std: float | None
    """Standard deviation over templates (ddof 1) of the accuracy averaged over seeds."""
    std_noise_corrected: float | None
    """The same with binomial noise taken out; see `noise_corrected_std`."""
    worst: float | None
    best: float
    share_above: float
    """Share of templates with an accuracy above the threshold."""
    consistency: float | None
    """Share of template pairs that agree on the prediction, averaged over examples."""
    parse_failure_rate: float | None
    num_templates: int
    num_examples: int
    num_seeds: int
    refused: str | None
    """Why std, worst and intervals are None."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean accuracy of one arm minus that of another, with a bootstrap interval."""

    first: str
    second: str
    mean: float
    low: float | None
    high: float | None
    confidence: float
    num_seeds: int
    """Seeds behind the comparison."""
    refused: str | None
    """Why there is no interval."""


def arms_from_table(table: Any) -> dict[str, ArmOutcomes]:
    """Arm -> outcomes, from an Arrow table with columns arm, seed, template_id, example_id, predicted, parsed, correct.

    All arms share the ids of templates and examples (sorted); a missing row is NaN. Raises `ValueError` for a row that comes twice.
    """
    arms, arm_code = np.unique(_texts(table, "arm"), return_inverse=True)
    templates, template_code = np.unique(_texts(table, "template_id"), return_inverse=True)
    examples, example_code = np.unique(_texts(table, "example_id"), return_inverse=True)
    _, predicted_code = np.unique(_texts(table, "predicted"), return_inverse=True)
    seed = table.column("seed").to_numpy()
    predicted = np.where(table.column("parsed").to_numpy(), predicted_code, _NOT_PARSED)
    correct = table.column("correct").to_numpy().astype(np.float64)
    found = {}
    for number, arm in enumerate(arms):
        rows = arm_code == number
        seeds, seed_code = np.unique(seed[rows], return_inverse=True)
        shape = (len(seeds), len(templates), len(examples))
        cell = np.ravel_multi_index((seed_code, template_code[rows], example_code[rows]), shape)
        if (repeated := np.bincount(cell) > 1).any():
            raise ValueError(f"arm {arm}: {int(repeated.sum())} (seed, template, example) come more than once")
        right, answer = np.full(shape, np.nan), np.full(shape, _MISSING, dtype=np.int64)
        right.flat[cell], answer.flat[cell] = correct[rows], predicted[rows]
        found[str(arm)] = ArmOutcomes(
            template_ids=tuple(map(str, templates)),
            example_ids=tuple(map(str, examples)),
            seeds=tuple(map(int, seeds)),
            correct=right,
            predicted=answer,
        )
    return found


def _texts(table: Any, column: str) -> NDArray[np.str_]:
    return np.array([value or "" for value in table.column(column).to_pylist()], dtype=np.str_)


def figures(arm: ArmOutcomes, *, threshold: float) -> Figures:
    """Robustness figures of an arm; below `MIN_TEMPLATES` templates std and worst are None, with the reason in `refused`."""
    accuracy = arm.by_template
    refused = refusal(len(accuracy))
    return Figures(
        mean=float(accuracy.mean()),
        std=None if refused else float(accuracy.std(ddof=1)),
        std_noise_corrected=None if refused else noise_corrected_std(arm),
        worst=None if refused else float(accuracy.min()),
        best=float(accuracy.max()),
        share_above=float((accuracy > threshold + _ROUNDING).mean()),
        consistency=consistency(arm),
        parse_failure_rate=parse_failure_rate(arm),
        num_templates=len(arm.template_ids),
        num_examples=len(arm.example_ids),
        num_seeds=len(arm.seeds),
        refused=refused,
    )


def refusal(num_templates: int) -> str | None:
    """Why figures of spread are refused, or None where there are enough templates."""
    return None if num_templates >= MIN_TEMPLATES else f"only {num_templates} templates, at least {MIN_TEMPLATES} are needed"


def noise_corrected_std(arm: ArmOutcomes) -> float | None:
    """sqrt(max(0, variance over templates - mean noise variance)): the spread an endless test set would show. None below two examples.

    The noise of one template is the unbiased variance of its mean over n examples; with one seed that is p (1 - p) / (n - 1). Templates share
    their examples, so part of that noise moves all of them alike and never was in the spread: the figure is a lower bound.
    """
    seen = ~np.isnan(arm.correct)
    per_example = np.nansum(arm.correct, axis=0) / np.maximum(seen.sum(axis=0), 1)
    present = seen.any(axis=0)
    counts = present.sum(axis=1)
    if (counts < 2).any():
        return None
    mean = (per_example * present).sum(axis=1) / counts
    squares = (((per_example - mean[:, None]) ** 2) * present).sum(axis=1)
    noise = (squares / (counts - 1) / counts).mean()
    return float(np.sqrt(max(0.0, arm.by_template.var(ddof=1) - noise)))


def consistency(arm: ArmOutcomes) -> float | None:
    """Share of template pairs with the same prediction, averaged over examples and seeds. None where predictions or pairs are missing.

    An answer that could not be parsed agrees with nothing; a failed row is left out.
    """
    if arm.predicted is None:
        return None
    codes = np.moveaxis(arm.predicted, 1, 2).reshape(-1, len(arm.template_ids))
    present = (codes != _MISSING).sum(axis=1)
    group = np.repeat(np.arange(len(codes)), codes.shape[1])
    parsed = codes.ravel() >= 0
    answers, counts = np.unique(np.stack([group[parsed], codes.ravel()[parsed]]), axis=1, return_counts=True)
    agreeing = np.bincount(answers[0], weights=counts * (counts - 1) / 2, minlength=len(codes))
    usable = present >= 2
    if not usable.any():
        return None
    return float((agreeing[usable] / (present * (present - 1) / 2)[usable]).mean())


def parse_failure_rate(arm: ArmOutcomes) -> float | None:
    """Share of answers that could not be parsed, failed rows left out; None where predictions are not known."""
    if arm.predicted is None:
        return None
    present = arm.predicted != _MISSING
    return float((arm.predicted == _NOT_PARSED).sum() / max(int(present.sum()), 1))


def difference(
    paft: ArmOutcomes, sft: ArmOutcomes, *, rng: np.random.Generator, num_bootstrap: int, confidence: float, names: tuple[str, str] = ("paft", "sft")
) -> Difference:
    """Mean accuracy of the first arm minus the second, with a percentile interval by resampling templates, examples and (if several) seeds.

    Both arms get the same resampled templates, examples and seeds. Seeds are paired by number; an arm with one seed (`base`) stands against every
    seed of the other. Cells that failed in either arm are left out. Raises `ValueError` where ids differ or no seed is common.
    """
    if paft.template_ids != sft.template_ids or paft.example_ids != sft.example_ids:
        raise ValueError(f"{names[0]} and {names[1]} were not measured on the same templates and examples")
    first, second = _paired(paft, sft, names)
    values = first - second
    refused = refusal(len(paft.template_ids))
    low, high = (None, None) if refused else bootstrap_interval(values, rng=rng, num_bootstrap=num_bootstrap, confidence=confidence)
    return Difference(
        first=names[0],
        second=names[1],
        mean=float(np.nanmean(values)),
        low=low,
        high=high,
        confidence=confidence,
        num_seeds=len(values),
        refused=refused,
    )


def _paired(paft: ArmOutcomes, sft: ArmOutcomes, names: tuple[str, str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    common = sorted(set(paft.seeds) & set(sft.seeds))
    if common:
        return paft.correct[[paft.seeds.index(s) for s in common]], sft.correct[[sft.seeds.index(s) for s in common]]
    if 1 in (len(paft.seeds), len(sft.seeds)):
        return paft.correct, sft.correct
    raise ValueError(f"{names[0]} (seeds {paft.seeds}) and {names[1]} (seeds {sft.seeds}) have no seed in common")


def bootstrap_interval(values: NDArray[np.float64], *, rng: np.random.Generator, num_bootstrap: int, confidence: float) -> tuple[float, float]:
    """Percentile interval of the mean of `values` [seeds, templates, examples] (NaN: left out), every axis resampled with replacement.

    Resampling the axes independently treats both templates and examples as samples (the pigeonhole bootstrap, Owen 2007), which is mildly
    conservative; a single seed is not resampled, so the interval then says nothing about other seeds.
    """
    filled = np.nan_to_num(values)
    present = (~np.isnan(values)).astype(np.float64)
    means: list[NDArray[np.float64]] = []
    for start in range(0, num_bootstrap, _BLOCK):
        draws = min(_BLOCK, num_bootstrap - start)
        weights = [rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64) for n in values.shape]
        means.append(_weighted_sum(filled, weights) / _weighted_sum(present, weights))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def _weighted_sum(values: NDArray[np.float64], weights: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Sum of values [s, t, e] under each draw's weights [draws, s], [draws, t], [draws, e]. Shape [draws]."""
    seeds, templates, examples = weights
    over_examples = values @ examples.T
    over_templates = (over_examples * templates.T[None]).sum(axis=1)
    return np.asarray((over_templates * seeds.T).sum(axis=0))


def verdict(found: Difference, *, templates: str = "held-out templates") -> str:
    """One plain sentence: who is above whom, by how many points; "better" only with several seeds and an interval above zero."""
    points = 100 * found.mean
    side = "above" if points >= 0 else "below"
    seeds = "on this seed" if found.num_seeds == 1 else f"over {found.num_seeds} seeds"
    claim = f"{found.first} is {abs(points):.1f} points {side} {found.second} on {templates}"
    if found.low is None or found.high is None:
        return f"{claim}, {seeds}; no interval: {found.refused}"
    interval = f"({100 * found.confidence:g} % interval {100 * found.low:.1f} to {100 * found.high:.1f})"
    if found.low <= 0 <= found.high:
        return f"not decisive: {claim} {interval}, {seeds}"
    if found.num_seeds > 1 and found.low > 0:
        return f"{found.first} is better than {found.second}: {abs(points):.1f} points above it on {templates} {interval}, {seeds}"
    return f"{claim} {interval}, {seeds}"
