"""The formulas of benchmarks/recompute.py: figures of a grid of scores, a second time, without `paft_ray`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from scipy.stats import norm, t

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
COLUMN = {"behavior": "behavior", "strict": "strict", "knowledge": "correct"}
PLACE = ["seed", "template_id", "example_id"]
Values = dict[str, Any]


class Settings:
    """What config.json says of the report."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        report = config.get("report", {})
        self.seed = int(config.get("seed", 0))
        self.draws = int(report.get("num_bootstrap", 2000))
        self.confidence = float(report.get("confidence", 0.95))
        self.threshold = float(report.get("threshold", 0.8))
        self.primary = report.get("primary") or "paft-sft"


def scored(outcomes: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Rows with `value` (score by the measure), `says` (the prediction, None: nothing parsed) and `score` (of what it
    says)."""
    rows = outcomes[outcomes[COLUMN[measure]].notna()].copy()
    rows["value"] = rows[COLUMN[measure]].astype(float)
    rows["score"] = rows["correct" if measure == "knowledge" else "behavior"].astype(float)
    says = rows["predicted"].where(rows["parsed"]) if measure == "knowledge" else rows["named"]
    rows["says"] = says.astype(object).where(says.notna(), None)
    return rows


def grids(rows: pd.DataFrame, templates: list[str], examples: list[str]) -> np.ndarray:
    """Shape [seeds, templates, examples], NaN without a row."""
    seeds = sorted(rows["seed"].unique())
    index = pd.MultiIndex.from_product([seeds, templates, examples], names=PLACE)
    return rows.set_index(PLACE)["value"].reindex(index).to_numpy().reshape(len(seeds), len(templates), len(examples))


# means: moments of a crossed random-effects model


def mean_and_error(cells: pd.Series, seed_means: np.ndarray) -> tuple[float, float, float]:
    """(mean, standard error, degrees of freedom) of `cells`, indexed by (template_id, example_id). The error is endless
    where nothing varies."""
    cells = cells.dropna()
    left, count = cells - cells.mean(), len(cells)
    sizes = [cells.groupby(level=level).size() for level in (0, 1)]
    moments = np.array([(left.groupby(level=level).sum() ** 2).sum() for level in (0, 1)] + [(left**2).sum()])
    share = [float((size**2).sum()) / count**2 for size in sizes]
    components = np.zeros(3)
    if moments[2] > count * 1e-24:
        together = pd.crosstab(cells.index.get_level_values(0), cells.index.get_level_values(1))
        together = together.loc[sizes[0].index, sizes[1].index].to_numpy().astype(float)
        expected = np.zeros((3, 3))
        for own, table in ((0, together), (1, together.T)):
            groups, effects = table.sum(axis=1), table.sum(axis=0)
            # a group's sum of deviations weighs each effect by (cells of both) - (cells of one) x (of the other) / all
            expected[own, own] = ((np.diag(groups) - np.outer(groups, groups) / count) ** 2).sum()
            expected[own, 1 - own] = ((table - np.outer(groups, effects) / count) ** 2).sum()
            expected[own, 2] = (groups - groups**2 / count).sum()
            expected[2, own] = count - (groups**2).sum() / count
        expected[2, 2] = count - 1
        weight = np.array([1, 1, 1e-3]) / (expected.sum(axis=1) * moments[2] / count)
        components = nnls(expected * weight[:, None], moments * weight)[0]
    cell = components[2] / count
    parts = [(share[axis] * components[axis] + cell, len(sizes[axis]) - 1) for axis in (0, 1)]
    variance = max(sum(part for part, _ in parts) - cell, moments[2] / count / max(count - 1, 1))
    if len(seed_means) > 1:
        parts.append((seed_means.var(ddof=1) / len(seed_means), len(seed_means) - 1))
        variance += parts[-1][0]
    spread = sum(part**2 / max(freedom, 1) for part, freedom in parts)
    error = float(np.sqrt(variance)) if variance > 1e-24 else np.inf
    return float(cells.mean()), error, max(1.0, variance**2 / spread) if spread else 1.0


def estimate(grid: np.ndarray) -> tuple[float, float, float]:
    """The same of a grid [seeds, templates, examples]."""
    stacked = pd.DataFrame(grid.reshape(len(grid), -1)).mean(axis=0)
    stacked.index = pd.MultiIndex.from_product([range(grid.shape[1]), range(grid.shape[2])])
    return mean_and_error(stacked, np.array([np.nanmean(each) for each in measured_seeds(grid)]))


def measured_seeds(grid: np.ndarray) -> list[np.ndarray]:
    """The seeds with a cell."""
    return [each for each in grid if not np.isnan(each).all()]


def difference(first: np.ndarray, second: np.ndarray, settings: Settings) -> Values:
    """Mean, interval, p and what is needed to correct for others."""
    gap = first - second
    mean, error, freedom = estimate(gap)
    found: Values = {"mean": mean, "num_seeds": len(measured_seeds(gap)), "low": None, "high": None, "p_value": None}
    if gap.shape[1] >= 8 and np.isfinite(error):
        reach = t.ppf((1 + settings.confidence) / 2, freedom) * error
        found |= {
            "low": mean - reach,
            "high": mean + reach,
            "p_value": float(2 * t.sf(abs(mean) / error, freedom)),
            "error": (error, freedom),
        }
    return found


def corrected(gaps: dict[str, Values], settings: Settings) -> dict[str, Values]:
    """With Holm's correction over all but the primary one."""
    tested = sorted(
        (gap["p_value"], number, name)
        for number, (name, gap) in enumerate(gaps.items())
        if gap["p_value"] is not None and name != settings.primary
    )
    running, level = 0.0, 1 - settings.confidence
    for done, (p_value, _, name) in enumerate(tested):
        running = max(running, p_value * (len(tested) - done))
        gaps[name]["p_adjusted"] = min(running, 1.0)
    for name, gap in gaps.items():
        error, freedom = gap.pop("error", (None, None))
        gap["is_primary"] = name == settings.primary
        gap.setdefault("p_adjusted", gap["p_value"])
        comparisons = 1 if gap["is_primary"] else len(tested)
        gap["detectable"] = (
            None if error is None else (t.ppf(1 - level / comparisons / 2, freedom) + t.ppf(0.8, freedom)) * error
        )
        excludes = gap["low"] is not None and not gap["low"] <= 0 <= gap["high"]
        gap["decisive"] = bool(excludes and gap["p_adjusted"] < level)
    return gaps


# spread over templates


def spread(accuracy: np.ndarray, factor: np.ndarray | float = 1.0) -> np.ndarray:
    """Std (times `factor`), lowest decile, worst of accuracies [seeds, templates], means over seeds."""
    std = (factor * np.std(accuracy, axis=1, ddof=1)).mean()
    return np.array([std, np.quantile(accuracy, 0.1, axis=1).mean(), accuracy.min(1).mean()])


def scales(grid: np.ndarray) -> np.ndarray:
    """Per seed: what makes up for the std of a draw being too large, for drawn examples bring noise of their own."""
    residual, size = noise(grid), grid.shape[1]
    held = np.maximum(np.nanmean(grid, axis=2).var(axis=1, ddof=1), residual)
    return np.array(
        [np.sqrt(h / (h + v) * size / (size - 1)) if h else 1.0 for h, v in zip(held, residual, strict=True)]
    )


def spread_draws(grids_: list[np.ndarray], settings: Settings, *, same_seeds: bool = True) -> list[np.ndarray]:
    """Per grid [draws, 3]: a plain loop over the documented draws."""
    rng = np.random.default_rng(settings.seed)
    factors = [scales(grid) for grid in grids_]
    _, templates, examples = grids_[0].shape
    found: list[list[np.ndarray]] = [[] for _ in grids_]
    for start in range(0, settings.draws, 256):
        number = min(256, settings.draws - start)
        of_seed: list[np.ndarray] = []
        for size in map(len, grids_):
            if of_seed and same_seeds:
                of_seed.append(of_seed[0])
            else:
                drawn = rng.integers(size, size=(number, size - 1)) if size > 1 else np.zeros((number, 1), dtype=int)
                of_seed.append(drawn)
        of_template = rng.integers(templates, size=(number, templates))
        counts = rng.multinomial(examples, [1 / examples] * examples, size=number)
        for draw in range(number):
            for grid, seeds, factor, rows in zip(grids_, of_seed, factors, found, strict=True):
                chosen = grid[seeds[draw]]
                weights = counts[draw] * ~np.isnan(chosen)
                with np.errstate(invalid="ignore"):
                    accuracy = (np.nan_to_num(chosen) * weights).sum(axis=2) / weights.sum(axis=2)
                rows.append(spread(accuracy[:, of_template[draw]], factor[seeds[draw]]))
    stacked = [np.array(rows) for rows in found]
    complete = ~np.isnan(np.concatenate(stacked, axis=1)).any(axis=1)
    return [rows[complete] for rows in stacked]


def expanded(draws: np.ndarray, templates: int, confidence: float) -> Values:
    """Percentile interval at the level that few templates need."""
    reach = np.sqrt(templates / (templates - 1)) * t.ppf((1 + confidence) / 2, templates - 1)
    tail = norm.sf(reach)
    low, high = np.quantile(draws, [tail, 1 - tail])
    return {"low": low, "high": high}


def has_spread(grid: np.ndarray) -> bool:
    """Enough templates and cells for bootstrap intervals."""
    return bool(grid.shape[1] >= 12 and np.isnan(grid).mean() <= 0.1 and noise(grid) is not None)


def noise(grid: np.ndarray) -> np.ndarray | None:
    """Residual variance of each seed's template accuracies; None where it cannot be told."""
    found = []
    for seed in grid:
        rows = pd.DataFrame(seed).stack().dropna()
        of_template, of_example = (rows.groupby(level=level) for level in (0, 1))
        freedom = len(rows) - seed.shape[0] - of_example.ngroups + 1
        if freedom < 1:
            return None
        residual = rows - of_template.transform("mean") - of_example.transform("mean") + rows.mean()
        found.append((residual**2).sum() / freedom * (1 / of_template.size()).mean())
    return np.array(found)


def arm_figures(grid: np.ndarray, rows: pd.DataFrame, settings: Settings) -> Values:
    """Figures of an arm by one measure."""
    accuracy = np.nanmean(grid, axis=2)
    mean, error, freedom = estimate(grid)
    reach = t.ppf((1 + settings.confidence) / 2, freedom) * error
    enough, has_interval = grid.shape[1] >= 12, grid.shape[1] >= 8 and np.isfinite(error)
    residual = noise(grid) if enough else None
    variance = accuracy.var(axis=1, ddof=1)
    found: Values = {
        "mean": accuracy.mean(),
        "low": mean - reach if has_interval else None,
        "high": mean + reach if has_interval else None,
        "best": accuracy.max(axis=1).mean(),
        "share_above": (accuracy > settings.threshold + 1e-9).mean(),
        "num_seeds": len(grid),
        "num_templates": grid.shape[1],
        "num_examples": grid.shape[2],
        "parse_failure_rate": rows["says"].isna().mean(),
        "consistency": consistency(rows),
        "intervals": None,
        **dict.fromkeys(("std", "decile", "worst", "std_noise_corrected", "worst_shrunken", "sensitivity")),
        "quantiles": dict.fromkeys(f"{level:g}" for level in QUANTILES),
    }
    if enough:
        found |= dict(zip(("std", "decile", "worst"), spread(accuracy), strict=True))
        found["quantiles"] = {f"{q:g}": np.quantile(accuracy, q, axis=1).mean() for q in QUANTILES}
        found["sensitivity"] = sensitivity(grid)
    if residual is not None:
        found["std_noise_corrected"] = np.sqrt(np.maximum(0, variance - residual)).mean()
        size = grid.shape[1]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(variance > 0, residual / variance, np.inf)
        kept = np.maximum(0.0, 1 - (size - 3) / (size - 1) * share)
        middle = accuracy.mean(axis=1)
        found["worst_shrunken"] = (middle + kept * (accuracy.min(axis=1) - middle)).mean()
    if has_spread(grid):
        [drawn] = spread_draws([grid], settings)
        if drawn[:, 0].max() > 1e-9:
            found["intervals"] = {
                name: expanded(drawn[:, i], grid.shape[1], settings.confidence)
                for i, name in enumerate(("std", "decile", "worst"))
            }
    return found


def consistency(rows: pd.DataFrame) -> float | None:
    """Fraction of template pairs with the same prediction."""
    keys = ["seed", "example_id"]
    asked = rows.groupby(keys).size()
    same = rows.dropna(subset="says").groupby([*keys, "says"]).size()
    agreeing = (same * (same - 1)).groupby(level=[0, 1]).sum().reindex(asked.index, fill_value=0)
    several = asked > 1
    return float((agreeing / (asked * (asked - 1)))[several].mean()) if several.any() else None


def sensitivity(grid: np.ndarray) -> float | None:
    """Fraction of template pairs of which one is right."""
    if ((grid > 0) & (grid < 1)).any():
        return None
    present, right = (~np.isnan(grid)).sum(axis=1), np.nansum(grid, axis=1)
    usable = present > 1
    return float((2 * right * (present - right) / np.maximum(present * (present - 1), 1))[usable].mean())


def pair_spread(first: np.ndarray, second: np.ndarray, settings: Settings, *, same_seeds: bool) -> Values:
    """Std ratio and difference of lowest deciles."""
    if not (has_spread(first) and has_spread(second)) or np.nanmax(first - second) - np.nanmin(first - second) <= 1e-9:
        return {"std_ratio": None, "decile": None}
    one, other = (spread(np.nanmean(grid, axis=2)) for grid in (first, second))
    of_one, of_other = spread_draws([first, second], settings, same_seeds=same_seeds)
    size, kept = first.shape[1], of_other[:, 0] > 1e-9
    ratio = of_one[kept, 0] / of_other[kept, 0]
    decile = expanded(of_one[:, 1] - of_other[:, 1], size, settings.confidence)
    return {
        "std_ratio": {"value": one[0] / other[0], **expanded(ratio, size, settings.confidence)}
        if other[0] > 1e-9 and of_one[:, 0].max() > 1e-9 and kept.mean() >= 0.99
        else None,
        "decile": {"mean": one[1] - other[1], **decile},
    }


def balanced(rows: pd.DataFrame) -> float | None:
    """Mean over right labels of their rows' mean score, averaged over seeds."""
    means = rows.groupby(["seed", "answer"])["value"].mean().unstack()
    return float(means.mean(axis=1).mean()) if means.shape[1] > 1 else None


def collapsed(rows: pd.DataFrame) -> list[Values]:
    """Templates of each seed with one answer on over 95 % of at least 20 rows, that is not right on as many of them."""
    found = []
    for (seed, template), part in rows.groupby(["seed", "template_id"]):
        counts = part["says"].value_counts(dropna=False)
        answer = counts.index[0] if isinstance(counts.index[0], str) else None
        fraction = counts.iloc[0] / len(part)
        right = part["score"].where(part["says"].isna() if answer is None else part["says"] == answer, 0.0).mean()
        if len(part) >= 20 and fraction > 0.95 and right <= 0.95:
            found.append({"seed": seed, "template_id": template, "answer": answer, "fraction": fraction})
    return found


def calibrated(outcomes: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """The rows of `ARM+cal`: the label whose log-probability is the most above its mean under the template."""
    scores = _label_scores(outcomes)
    above = scores - scores.groupby([outcomes["arm"], outcomes["seed"], outcomes["template_id"]]).transform("mean")
    found = _choosing(outcomes, [labels[index] for index in _at_best(above).argmax(axis=1)])
    return found.assign(arm=outcomes["arm"] + "+cal")


def most_probable(outcomes: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """The rows with the most probable label; of equally probable ones the greedy one, else the first."""
    equal = _at_best(_label_scores(outcomes))
    greedy = outcomes["predicted"].map({label: index for index, label in enumerate(labels)}).fillna(0).astype(int)
    keep = equal[np.arange(len(outcomes)), greedy]
    return _choosing(outcomes, [labels[index] for index in np.where(keep, greedy, equal.argmax(axis=1))])


def _label_scores(outcomes: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(np.stack(outcomes["label_logprobs"]).astype(float), index=outcomes.index)


def _at_best(scores: pd.DataFrame) -> np.ndarray:
    """Which labels have the highest score of the row. Shape [rows, labels]."""
    return np.asarray(scores.ge(scores.max(axis=1) - 1e-6, axis=0))


def _choosing(outcomes: pd.DataFrame, predicted: list[str]) -> pd.DataFrame:
    return outcomes.assign(predicted=predicted, parsed=True, correct=outcomes["answer"] == predicted)


def speed(models: Mapping[str, Mapping[str, Any]], arm: str) -> Values:
    """Tokens and seconds per answer of evaluate/speed.json, means over seeds."""
    rows = [row for name, row in models.items() if name == arm or name.rpartition("-s")[0] == arm]
    found: Values = {}
    for name in ("tokens", "seconds"):
        keys = {"value": f"{name}_per_answer", "low": f"{name}_low", "high": f"{name}_high"}
        known = bool(rows) and all(row.get(key) is not None for row in rows for key in keys.values())
        found[name] = {end: np.mean([row[key] for row in rows]) if known else None for end, key in keys.items()}
    return found
