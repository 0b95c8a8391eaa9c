"""The tables of a report: results, the accuracy of every template, the worst templates with failing examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from paft_ray.config import ReportConfig
from paft_ray.metrics import (
    MIN_TEMPLATES_INTERVAL,
    ArmOutcomes,
    Difference,
    corrected,
    difference,
    figures,
    insufficient_data_reason,
    mean_interval,
    verdict,
)
from paft_ray.prompts.template import PromptTemplate
from paft_ray.report.budget import estimated_rows, estimates
from paft_ray.report.inputs import History, Measured
from paft_ray.storage.stage_cache import Manifest
from paft_ray.tasks.task import Example

ARM_ORDER = ("base", "sft", "top_accuracy", "paft")
_SPEED = ("tokens_per_answer", "seconds_per_answer")
_DIFFERENCE = ("mean", "low", "high", "p_value", "p_adjusted", "detectable", "decisive", "num_seeds")


@dataclass(frozen=True, kw_only=True)
class TemplateRow:
    """One held-out template."""

    number: int
    """From 1, worst for arm `sft` first; the same number in plot and table."""
    template: PromptTemplate
    accuracy: Mapping[str, float]
    """Arm -> accuracy averaged over seeds."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A wrong answer."""

    fields: Mapping[str, str]
    answer: str
    predicted: str | None
    """None: could not be parsed."""


@dataclass(frozen=True, kw_only=True)
class WorstTemplate:
    """A template on which an arm did badly, with some wrong answers."""

    row: TemplateRow
    accuracy: float
    failures: tuple[Failure, ...]
    num_failures: int
    """All wrong answers, of the arm's first seed."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that results.json, the page and the Markdown file say about accuracy."""

    values: dict[str, Any]
    """The content of results.json."""
    arms: Mapping[str, ArmOutcomes]
    """In the order base, sft, top_accuracy, paft, others."""
    differences: Mapping[str, Difference]
    insufficient_data_reason: str | None
    """Why figures of spread are absent."""
    no_intervals: str | None
    """Why intervals are absent; they need fewer templates than figures of spread."""


def results(measured: Measured, history: History, config: ReportConfig, seed: int) -> Results:
    """Figures per arm and differences for every pair of arms (paft - sft first); intervals follow `seed`."""
    found = measured.arms
    asked = {name: found[name] for name in sorted(found, key=arm_rank)}
    arms, estimated = estimates(measured, asked, confidence=config.confidence, seed=seed)
    tables = {name: figures(arm, threshold=config.threshold) for name, arm in arms.items()}
    differences = _differences(asked, config, seed)
    speed = speeds(measured)
    manifests = {**(history.manifests if measured.held_out else {}), "evaluate": measured.manifest}
    where = "held-out templates" if measured.held_out else "the given templates"
    rows = {
        name: {
            **{key: value for key, value in asdict(table).items() if key != "insufficient_data_reason"},
            **_interval_of_mean(arms[name], config, seed),
            **{key: speed.get(name, {}).get(key) for key in _SPEED},
        }
        for name, table in tables.items()
    }
    values = {
        "arms": estimated_rows(rows, estimated),
        "differences": {name: {key: getattr(gap, key) for key in _DIFFERENCE} for name, gap in differences.items()},
        "timings_s": {stage: manifest["time_s"] for stage, manifest in manifests.items() if "time_s" in manifest},
        "engine_starts": sum(manifest.get("engine_starts", 0) for manifest in manifests.values()),
        "peak_memory_gib": _peak_memory(manifests.values()),
        "verdict": verdict(next(iter(differences.values())), templates=where)
        if differences
        else f"only arm {next(iter(arms))} was measured: nothing to compare",
    }
    first = next(iter(tables.values()))
    return Results(
        values=values,
        arms=arms,
        differences=differences,
        insufficient_data_reason=first.insufficient_data_reason,
        no_intervals=insufficient_data_reason(first.num_templates, MIN_TEMPLATES_INTERVAL),
    )


def _differences(arms: Mapping[str, ArmOutcomes], config: ReportConfig, seed: int) -> dict[str, Difference]:
    """`FIRST-SECOND` -> difference for every pair, p-values corrected over all of them."""
    return corrected(
        {
            f"{first}-{second}": difference(
                arms[first],
                arms[second],
                rng=np.random.default_rng(seed),
                num_bootstrap=config.num_bootstrap,
                confidence=config.confidence,
                names=(first, second),
            )
            for first, second in _pairs(list(arms))
        }
    )


def _interval_of_mean(arm: ArmOutcomes, config: ReportConfig, seed: int) -> dict[str, float | None]:
    found = mean_interval(
        arm, rng=np.random.default_rng(seed), num_bootstrap=config.num_bootstrap, confidence=config.confidence
    )
    low, high = found or (None, None)
    return {"low": low, "high": high}


def arm_rank(arm: str) -> tuple[int, str]:
    """Sorts arms: base, sft, top_accuracy, paft, others."""
    return (ARM_ORDER.index(arm) if arm in ARM_ORDER else len(ARM_ORDER), arm)


def _pairs(arms: list[str]) -> list[tuple[str, str]]:
    """Every pair, the later arm first; paft against sft opens, then paft against the others."""
    pairs = [(later, earlier) for earlier, later in combinations(arms, 2)]
    return sorted(pairs, key=lambda pair: (pair != ("paft", "sft"), pair[0] != "paft"))


def _peak_memory(manifests: Any) -> float | None:
    peaks = [manifest["peak_memory_gib"] for manifest in manifests if manifest.get("peak_memory_gib") is not None]
    return max(peaks) if peaks else None


def template_rows(measured: Measured, arms: Mapping[str, ArmOutcomes]) -> list[TemplateRow]:
    """Every measured template with its accuracy per arm, lowest accuracy of `sft` (else of the first arm) first."""
    accuracy = {name: arm.by_template for name, arm in arms.items()}
    sorting = accuracy.get("sft", next(iter(accuracy.values())))
    texts = {template.id: template for template in measured.templates.templates}
    ids = next(iter(arms.values())).template_ids
    return [
        TemplateRow(
            number=number,
            template=texts.get(ids[t], PromptTemplate(text=f"(template {ids[t]} is not in the prompt set)")),
            accuracy={name: float(values[t]) for name, values in accuracy.items()},
        )
        for number, t in enumerate(np.argsort(sorting, kind="stable"), start=1)
    ]


def worst_templates(
    measured: Measured, rows: Sequence[TemplateRow], arm: str, *, num_templates: int = 3, num_failures: int = 4
) -> list[WorstTemplate]:
    """The templates with the arm's lowest accuracies, each with wrong answers of the arm's first seed, the surest
    mistakes first."""
    wanted = sorted(rows, key=lambda row: row.accuracy[arm])[:num_templates]
    wrong = _wrong_rows(measured, arm)
    found = []
    for row in wanted:
        mistakes = wrong.get(row.template.id, [])
        shown = tuple(_failure(mistake, measured.examples) for mistake in mistakes[:num_failures])
        found.append(WorstTemplate(row=row, accuracy=row.accuracy[arm], failures=shown, num_failures=len(mistakes)))
    return found


def _wrong_rows(measured: Measured, arm: str) -> dict[str, list[dict[str, Any]]]:
    """Template id -> wrong outcomes of the arm's lowest seed, lowest log-probability of the right answer first."""
    names = measured.outcomes.column("arm").to_numpy(zero_copy_only=False)
    seeds = measured.outcomes.column("seed").to_numpy()
    right = measured.outcomes.column("correct").to_numpy(zero_copy_only=False).astype(bool)
    chosen = (names == arm) & (seeds == seeds[names == arm].min()) & ~right
    wrong: dict[str, list[dict[str, Any]]] = {}
    for outcome in measured.outcomes.filter(chosen).to_pylist():
        wrong.setdefault(outcome["template_id"], []).append(outcome)
    for outcomes in wrong.values():
        outcomes.sort(key=lambda o: (o["logprob"] if o.get("logprob") is not None else 0.0, o["example_id"]))
    return wrong


def _failure(outcome: dict[str, Any], examples: Mapping[str, Example]) -> Failure:
    example = examples.get(outcome["example_id"])
    fields = example.fields if example else {"id": outcome["example_id"]}
    return Failure(
        fields=fields, answer=outcome["answer"], predicted=outcome["predicted"] if outcome["parsed"] else None
    )


def cut_note(measured: Measured, history: History, limit: int) -> str | None:
    """How many prompts lost text to keep to the longest prompt (`limit`, tokens); None where none did."""
    tested, trained = (
        measured.manifest.get("num_truncated", 0),
        sum(model.truncated_rows for model in history.trainings),
    )
    if not tested and not trained:
        return None
    return (
        f"Fields were truncated to model.max_prompt_tokens={limit}: in {tested} of the test prompts of all arms "
        f"and in {trained} training rows."
    )


def speeds(measured: Measured) -> dict[str, dict[str, float | None]]:
    """Arm -> tokens_per_answer and seconds_per_answer (None: not measured), averaged over its seeds (each seed answers
    as many rows)."""
    found: dict[str, list[Mapping[str, float | None]]] = {}
    for model, speed in measured.speed.items():
        found.setdefault(model.arm, []).append(speed)
    return {
        arm: {key: _mean([value for speed in seeds if (value := speed.get(key)) is not None]) for key in _SPEED}
        for arm, seeds in found.items()
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def provenance_counts(measured: Measured) -> dict[str, dict[str, int]]:
    """Source of templates -> number per split."""
    counts: dict[str, dict[str, int]] = {}
    for entry in measured.templates.entries:
        row = counts.setdefault(str(entry.provenance.get("source", "unknown")), {"train": 0, "held_out": 0})
        row[entry.split] += 1
    return dict(sorted(counts.items()))


def stage_rows(
    manifests: Mapping[str, Manifest], timings_s: Mapping[str, float]
) -> list[tuple[str, float, int | None]]:
    """(stage, seconds, engine starts or None) in the order of the pipeline."""
    return [(stage, seconds, manifests.get(stage, {}).get("engine_starts")) for stage, seconds in timings_s.items()]
