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

from paft_ray.metrics import ArmOutcomes, difference, spread_difference, spread_intervals
from paft_ray.metrics.cell_sampling import sample_cells

Scores = NDArray[np.float64]
Drawn = tuple[Scores, Scores, float]
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
    rng: np.random.Generator,
    templates: int,
    examples: int,
    failing: tuple[float, float],
    seeds: tuple[int, int] = (1, 1),
) -> tuple[Scores, Scores]:
    """Both arms of a binary world, on the same examples. Of several seeds each has a failing rate of its own, 0 to
    twice that of the arm."""
    hard, label = rng.normal(0, _OF_EXAMPLE, examples), rng.random(examples) < 0.5
    arms = []
    for mean_rate, number in zip(failing, seeds, strict=True):
        ease = _EASE + rng.normal(0, _OF_TEMPLATE, (templates, 1)) + hard
        rate = mean_rate if number == 1 else rng.uniform(0, 2 * mean_rate, (number, 1, 1))
        fails = rng.random((number, templates, 1)) < rate
        says = rng.random((number, templates, 1)) < 0.5
        right = np.where(fails, label == says, rng.random((number, templates, examples)) < expit(ease))
        arms.append(right.astype(float))
    return arms[0], arms[1]


def _effects(rng: np.random.Generator, shape: tuple[int, int, int], sd: tuple[float, float, float]) -> Scores:
    _, templates, examples = shape
    return np.asarray(
        rng.normal(0, sd[0], (1, templates, 1)) + rng.normal(0, sd[1], (1, 1, examples)) + rng.normal(0, sd[2], shape)
    )


def arm(correct: Scores) -> ArmOutcomes:
    """Outcomes of an arm. A single seed is that of an arm that nobody trained."""
    seeds, templates, examples = correct.shape
    return ArmOutcomes(
        template_ids=tuple(map(str, range(templates))),
        example_ids=tuple(map(str, range(examples))),
        seeds=tuple(range(seeds)) if seeds > 1 else (-1,),
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
    templates: int,
    examples: int,
    failing: tuple[float, float],
    number: int,
    *,
    seeds: tuple[int, int] = (1, 1),
) -> dict[str, Line]:
    """Coverage of the intervals of std ratio, difference of lowest deciles and std of the first arm. Their truth is
    that of endless templates, and of endless seeds where there are several, on test sets of this size. A world in which
    there is no ratio (the second arm lacks any spread in over a hundredth of the draws) is left out of its line."""
    std, other_std, decile = _true_spread(examples, failing, seeds)
    truth = {"std ratio": std / other_std, "lowest decile": decile, "std of the first": std}
    rng = np.random.default_rng(0)
    held: dict[str, list[bool]] = {name: [] for name in truth}
    for _ in range(number):
        first, second = (arm(side) for side in binary_arms(rng, templates, examples, failing, seeds))
        of_pair = spread_difference(first, second, rng=rng, num_bootstrap=_NUM_DRAWS, confidence=0.95)
        of_first = spread_intervals(first, rng=rng, num_bootstrap=_NUM_DRAWS, confidence=0.95)
        assert of_pair is not None
        assert of_first is not None
        for (name, true), found in zip(truth.items(), (of_pair.std_ratio, of_pair.decile, of_first.std), strict=True):
            if found is not None:
                held[name].append(found.low <= true <= found.high)
    return {name: _line(each, float("nan")) for name, each in held.items()}


def _true_spread(examples: int, failing: tuple[float, float], seeds: tuple[int, int]) -> tuple[float, float, float]:
    """(std of the first arm, of the second, difference of their lowest deciles)."""
    rng, many = np.random.default_rng(0), tuple(40 if number > 1 else 1 for number in seeds)
    found = []
    for _ in range(20):
        one, other = (side.mean(axis=2) for side in binary_arms(rng, 1000, examples, failing, (many[0], many[1])))
        deciles = [float(np.quantile(side, 0.1, axis=1).mean()) for side in (one, other)]
        found.append([one.std(axis=1).mean(), other.std(axis=1).mean(), deciles[0] - deciles[1]])
    std, other_std, decile = np.mean(found, axis=0)
    return float(std), float(other_std), float(decile)


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
    _show_spread(max(1, number // 4))
    print(f"\n{missed} lines outside their bar")
    return int(missed > 0)


def _show_spread(number: int) -> None:
    worlds = [
        (failing, shape, (1, 1))
        for failing in ((0.0, 0.0), (0.08, 0.45), (0.2, 0.2), (0.03, 0.1))
        for shape in ((12, 50), (12, 400), (24, 40), (50, 100))
    ]
    worlds += [((0.2, 0.2), shape, seeds) for shape in ((12, 50), (24, 40), (50, 100)) for seeds in ((3, 1), (3, 3))]
    print(f"\nSpread, binary worlds, {number} worlds a line:\n")
    print("| world | std ratio, % | lowest decile, % | std of the first, % |\n| --- | --- | --- | --- |", flush=True)
    for failing, (templates, examples), seeds in worlds:
        lines = spread(templates, examples, failing, number, seeds=seeds).values()
        said = " / ".join(f"{100 * rate:g}" for rate in failing)
        name = f"{said} % of templates fail, {templates} x {examples}"
        if max(seeds) > 1:
            name += f", {seeds[0]} seeds / {seeds[1]}"
        print(f"| {name} | {' | '.join(f'{100 * line.coverage:.1f}' for line in lines)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
