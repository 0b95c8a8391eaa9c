"""How often the product's intervals hold the truth, in made-up worlds whose truth is known.

`python -m benchmarks.coverage [WORLDS]` (default 1000 worlds a line, some minutes on one core) prints Markdown tables;
exit code 1 where a line is outside its bar by more than two standard errors of the simulation. The bar at nominal 95 %:
93 to 97 % where effects are Gaussian or at least one template in ten fails, at least 91 % where failures are rarer.
`SE ratio` is the mean standard error over the true one: 1 where no power is thrown away."""

from __future__ import annotations

import os
import sys

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # small matrices

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from paft_ray.metrics import ArmOutcomes, difference, spread_difference
from paft_ray.metrics.cell_sampling import sample_cells

Grid = NDArray[np.float64]
Drawn = tuple[Grid, Grid, float]
"""Both arms [seeds, templates, examples] and the true difference of their means."""
USUAL, RARE = (0.93, 0.97), (0.91, 1.0)
_SD = (0.12, 0.18, 0.45)
"""Of template, example and cell in the demo's paft - sft."""
_EASE, _OF_TEMPLATE, _OF_EXAMPLE = 1.8, 0.4, 1.0
"""Logits of binary worlds."""
_NUM_DRAWS = 300


@dataclass(frozen=True, kw_only=True)
class World:
    """Made-up answers of two arms."""

    name: str
    draw: Callable[[np.random.Generator], Drawn]
    bar: tuple[float, float] | None
    """Coverage that is allowed; None: shown only."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What came out of one world."""

    coverage: float
    error: float
    """Standard error of `coverage`."""
    se_ratio: float
    """Root mean square of the standard errors over the standard deviation of the errors."""

    def within(self, bar: tuple[float, float] | None) -> bool:
        """Not outside the bar by more than two standard errors."""
        return bar is None or bar[0] - 2 * self.error <= self.coverage <= bar[1] + 2 * self.error


def gaussian(
    templates: int, examples: int, *, sd: tuple[float, float, float] = _SD, budget: float = 1.0
) -> Callable[[np.random.Generator], Drawn]:
    """Differences of Gaussian effects, of which a fraction `budget` of the cells is seen."""

    def draw(rng: np.random.Generator) -> Drawn:
        gain = 0.1 + _effects(rng, (1, templates, examples), sd)
        if budget < 1:
            cells = sample_cells(templates, examples, budget, int(rng.integers(2**31)))
            gain = np.where(cells, gain, np.nan)
        return gain, np.zeros_like(gain), 0.1

    return draw


def seeded(seeds: int, templates: int, examples: int, *, others: bool = True) -> Callable[[np.random.Generator], Drawn]:
    """Gaussian effects with those of the training: 3 points by seed, 6 by seed and template. `others`: the truth is
    that of all trainings, else of these weights."""

    def draw(rng: np.random.Generator) -> Drawn:
        of_seed = rng.normal(0, 0.03, (seeds, 1, 1))
        gain = 0.1 + of_seed + rng.normal(0, 0.06, (seeds, templates, 1))
        gain = gain + _effects(rng, (1, templates, examples), (_SD[0], _SD[1], _SD[2] / 2))
        gain = gain + rng.normal(0, _SD[2], (seeds, templates, examples))
        return gain, np.zeros_like(gain), 0.1 if others else 0.1 + float(of_seed.mean())

    return draw


def binary(templates: int, examples: int, failing: tuple[float, float]) -> Callable[[np.random.Generator], Drawn]:
    """Right and wrong answers to balanced labels; a failing template of an arm says one label always."""
    chance = expit(_EASE + np.hypot(_OF_TEMPLATE, _OF_EXAMPLE) * np.linspace(-8, 8, 4001))
    density = np.exp(-(np.linspace(-8, 8, 4001) ** 2) / 2)
    right = float(chance @ density / density.sum())
    truth = (failing[1] - failing[0]) * (right - 0.5)

    def draw(rng: np.random.Generator) -> Drawn:
        first, second = binary_arms(rng, templates, examples, failing)
        return first, second, truth

    return draw


def binary_arms(
    rng: np.random.Generator, templates: int, examples: int, failing: tuple[float, float]
) -> tuple[Grid, Grid]:
    """Both arms of a binary world, on the same examples."""
    hard, label = rng.normal(0, _OF_EXAMPLE, examples), rng.random(examples) < 0.5
    arms = []
    for rate in failing:
        ease = _EASE + rng.normal(0, _OF_TEMPLATE, (templates, 1)) + hard
        fails, says = rng.random((2, templates, 1)) < [[[rate]], [[0.5]]]
        arms.append(np.where(fails, label == says, rng.random((templates, examples)) < expit(ease)).astype(float)[None])
    return arms[0], arms[1]


def _effects(rng: np.random.Generator, shape: tuple[int, int, int], sd: tuple[float, float, float]) -> Grid:
    _, templates, examples = shape
    return np.asarray(
        rng.normal(0, sd[0], (1, templates, 1)) + rng.normal(0, sd[1], (1, 1, examples)) + rng.normal(0, sd[2], shape)
    )


def arm(correct: Grid) -> ArmOutcomes:
    """Outcomes of an arm."""
    seeds, templates, examples = correct.shape
    return ArmOutcomes(
        template_ids=tuple(map(str, range(templates))),
        example_ids=tuple(map(str, range(examples))),
        seeds=tuple(range(seeds)),
        correct=correct,
    )


def measure(world: World, worlds: int, seed: int = 0) -> Line:
    """Coverage of the interval of the difference of two means."""
    rng = np.random.default_rng(seed)
    held, errors, variances = [], [], []
    for _ in range(worlds):
        first, second, truth = world.draw(rng)
        found = difference(arm(first), arm(second), confidence=0.95)
        assert found.low is not None
        assert found.high is not None
        assert found.estimate is not None
        held.append(found.low <= truth <= found.high)
        errors.append(found.mean - truth)
        variances.append(found.estimate.standard_error**2)
    return _line(held, float(np.sqrt(np.mean(variances)) / np.sqrt(np.mean(np.square(errors)))))


def _line(held: Sequence[bool], se_ratio: float) -> Line:
    share = float(np.mean(held))
    return Line(coverage=share, error=float(np.sqrt(max(share * (1 - share), 0.01) / len(held))), se_ratio=se_ratio)


def worlds() -> list[World]:
    """All lines of the table."""
    found = []
    for templates in (8, 12, 20, 50):
        found.append(_gaussian(f"Gaussian, demo's variances, {templates} x 50", gaussian(templates, 50)))
    for templates in (8, 12, 20, 50):
        only = gaussian(templates, 50, sd=(0.12, 0.0, 0.0))
        found.append(_gaussian(f"Gaussian, templates alone vary, {templates} x 50", only))
    for templates, examples, budget in ((12, 50, 0.2), (12, 50, 0.1), (50, 200, 0.02)):
        part = gaussian(templates, examples, budget=budget)
        found.append(_gaussian(f"Gaussian, {100 * budget:g} % of {templates} x {examples} cells", part))
    for templates, examples in ((12, 50), (12, 872), (50, 872)):
        found.append(_gaussian(f"three seeds, {templates} x {examples}", seeded(3, templates, examples)))
    for templates, examples in ((12, 50), (12, 872)):
        weights, others = (seeded(1, templates, examples, others=others) for others in (False, True))
        found.append(_gaussian(f"one seed, truth of these weights, {templates} x {examples}", weights))
        found.append(World(name=f"one seed, truth of other seeds, {templates} x {examples}", draw=others, bar=None))
    for failing in ((0.08, 0.45), (0.45, 0.45), (0.1, 0.1), (0.03, 0.1), (0.03, 0.03)):
        for templates, examples in ((8, 50), (12, 50), (12, 872), (20, 872), (50, 200)):
            said = " / ".join(f"{100 * rate:g}" for rate in failing)
            found.append(
                World(
                    name=f"binary, {said} % of templates fail, {templates} x {examples}",
                    draw=binary(templates, examples, failing),
                    bar=USUAL if np.mean(failing) >= 0.1 else RARE,
                )
            )
    return found


def _gaussian(name: str, draw: Callable[[np.random.Generator], Drawn]) -> World:
    return World(name=name, draw=draw, bar=USUAL)


def spread(
    templates: int, examples: int, failing: tuple[float, float], number: int, seed: int = 0
) -> tuple[Line, Line]:
    """Coverage of the intervals of std ratio and difference of lowest deciles. Their truth is that of endless templates
    on test sets of this size."""
    rng = np.random.default_rng(0)
    many = [binary_arms(rng, 4000, examples, failing) for _ in range(20)]
    accuracies = [[side[0].mean(axis=1) for side in pair] for pair in many]
    ratio = float(np.sqrt(np.mean([a.var() for a, _ in accuracies]) / np.mean([b.var() for _, b in accuracies])))
    decile = float(np.mean([np.quantile(a, 0.1) - np.quantile(b, 0.1) for a, b in accuracies]))
    held: list[tuple[bool, bool]] = []
    for _ in range(number):
        first, second = (arm(side) for side in binary_arms(rng, templates, examples, failing))
        found = spread_difference(first, second, rng=rng, num_bootstrap=_NUM_DRAWS, confidence=0.95)
        assert found is not None
        assert found.std_ratio is not None
        held.append(
            (found.std_ratio.low <= ratio <= found.std_ratio.high, found.decile.low <= decile <= found.decile.high)
        )
    of_ratio, of_decile = (_line([each[i] for each in held], float("nan")) for i in (0, 1))
    return of_ratio, of_decile


def main(number: int) -> int:
    """Exit code."""
    print(f"Difference of means, {number} worlds a line:\n\n| world | coverage, % | SE ratio | bar, % |")
    print("| --- | --- | --- | --- |", flush=True)
    missed = 0
    for world in worlds():
        line = measure(world, number)
        missed += not line.within(world.bar)
        bar = "none" if world.bar is None else f"{100 * world.bar[0]:g} to {100 * world.bar[1]:g}"
        mark = "" if line.within(world.bar) else " (missed)"
        print(f"| {world.name} | {100 * line.coverage:.1f} | {line.se_ratio:.2f} | {bar}{mark} |", flush=True)
    number = max(1, number // 4)
    print(f"\nSpread, binary worlds, {number} worlds a line:\n\n| world | std ratio, % | lowest decile, % |")
    print("| --- | --- | --- |", flush=True)
    for failing in ((0.0, 0.0), (0.08, 0.45), (0.2, 0.2), (0.03, 0.1)):
        for templates, examples in ((12, 50), (12, 400), (24, 40), (50, 100)):
            ratio, decile = spread(templates, examples, failing, number)
            said = " / ".join(f"{100 * rate:g}" for rate in failing)
            name = f"{said} % of templates fail, {templates} x {examples}"
            print(f"| {name} | {100 * ratio.coverage:.1f} | {100 * decile.coverage:.1f} |", flush=True)
    print(f"\n{missed} lines outside their bar")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
