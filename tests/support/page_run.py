"""A made-up run whose every outside text is hostile, for the tests of the page. The numbers are drawn here and stand
for no measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from paft_ray.config import Config, parse_config
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.storage.artifacts import SCORE_TABLE, SWEEP_RESULT
from paft_ray.storage.manifests import ModelKey
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example
from tests.support import made_stage as stages
from tests.support.made_outcomes import outcome_table

ATTACKS = (
    "<script>window.hostile = 1</script>",
    '"><img src=x onerror="window.hostile = 1">',
    "</style></title></td></table><svg onload=window.hostile=1>",
    "' onmouseover='window.hostile=1' \u202eright to left, never closed\0\x1b[2J\u200b",
)
ATTACK = " ".join(ATTACKS)
NUM_TEMPLATES, NUM_EXAMPLES = 13, 12
SWEEP: dict[str, Any] = {
    "sizes": [
        {"size": n, "seed": s, "mean": 0.6 + 0.05 * n - 0.01 * s, "std": 0.1, "worst": 0.4}
        for n in (1, 2, 4)
        for s in (0, 1)
    ],
    "curve": [
        {
            "size": n,
            "mean": 0.6 + 0.05 * n,
            "low": 0.55 + 0.05 * n,
            "high": 0.65 + 0.05 * n,
            "std": 0.1 / n,
            "worst": 0.4,
        }
        for n in (1, 2, 4)
    ],
    "recommended_size": 4,
    "reason": f"The largest is the best. {ATTACK}",
    "fit": {"asymptote": 0.85, "gain": 0.3, "exponent": 0.7, "reason": None},
    "engine_starts": 6,
    "planned_engine_starts": 6,
    "trials": {"finished": 6, "failed": 0, "reused": 2},
}


def config() -> Config:
    return parse_config({"name": "made-up", "task": "demo", "report": {"num_bootstrap": 50}}, source="test")


def hostile_run(folder: Path, *, sweep: bool = True) -> Store:
    """A finished run of three arms and two seeds; its name, templates, examples, answers, sources and reasons are all
    hostile."""
    run = Store(str(folder / 'run <b> "&'))
    templates = _templates()
    stages.synthesized(
        run, templates, time_s=95.0, engine_starts=1, asked=2, kept=1, rejected={ATTACK: 3}, grammar_share=0.1
    )
    examples = [
        Example(id=f"e{n}", fields={"text": f"example {n} {ATTACK}"}, answer=ATTACK if n % 2 else "plain")
        for n in range(NUM_EXAMPLES)
    ]
    stages.prepared(run, {"test": examples})
    stages.evaluated(
        run,
        _outcomes(templates, examples),
        {ModelKey(arm, seed): _speed(tokens) for arm, tokens in (("sft", 2.0), ("paft", 10.0)) for seed in (0, 1)},
        time_s=4000.0,
        engine_starts=5,
        key={"versions": {ATTACK: ATTACK}},
    )
    scores = [{"template_id": t.id, "accuracy": 0.1 * n} for n, t in enumerate(templates.split("train").templates)]
    stages.finish_stage(
        run, "score", SCORE_TABLE.write(run, pa.Table.from_pylist(scores)), best=scores[-1]["template_id"]
    )
    _training(run)
    if sweep:
        stages.finish_stage(run, "sweep", SWEEP_RESULT.write(run, SWEEP))
    return run


def _speed(tokens: float) -> dict[str, float]:
    return {"tokens_per_answer": tokens, "tokens_low": tokens - 0.5, "tokens_high": tokens + 0.5, "num_rows": 70}


def _templates() -> PromptSet:
    generated = {"source": f"model {ATTACK}", "strategy": "few_shot", "axes": {"tone": ATTACK}, "attempt": 1}
    entries = [
        Entry(
            template=PromptTemplate(text=f"training {n}: {{text}}"),
            cluster=n,
            provenance=generated if n else {"source": "seed"},
        )
        for n in range(4)
    ]
    entries += [
        Entry(
            template=PromptTemplate(text=f"{n} {ATTACK} {{text}}", system=ATTACK),
            split="held_out",
            provenance={"source": ATTACK},
        )
        for n in range(NUM_TEMPLATES)
    ]
    return PromptSet.of(entries)


def _outcomes(templates: PromptSet, examples: list[Example]) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = []
    for arm, seed, level in (("base", -1, 0.4), ("sft", 0, 0.6), ("sft", 1, 0.6), ("paft", 0, 0.8), ("paft", 1, 0.8)):
        for number, template in enumerate(templates.split("held_out").templates):
            for example in examples:
                correct = bool(rng.random() < level + 0.02 * (number - 6))
                parsed = correct or bool(rng.random() < 0.7)
                given = example.answer if correct else f"wrong {ATTACK}"
                row = {
                    "arm": arm,
                    "seed": seed,
                    "template_id": template.id,
                    "example_id": example.id,
                    "answer": example.answer,
                    "correct": correct,
                }
                rows.append(
                    {**row, "parsed": parsed, "predicted": given if parsed else None, "logprob": float(-rng.random())}
                )
    return outcome_table(rows)


def _training(run: Store) -> None:
    models = []
    for arm, seed in (("sft", 0), ("sft", 1), ("paft", 0), ("paft", 1)):
        lines: list[dict[str, float]] = [{"step": step, "loss": 9 / step, "tokens": 300} for step in range(1, 41)]
        for line in lines[9::10]:
            line |= {"validation_loss": line["loss"] + 0.1, "validation_accuracy": line["step"] / 50}
        fields = {"num_templates": 4, "num_steps": 40, "tokens_per_s": 900.0, "train_time_s": 90.0 * (seed + 1)}
        models.append(stages.trained_arm(run, ModelKey(arm, seed), metrics=lines, final_loss=0.2, **fields))
    stages.trained(run, models, key=stages.train_key(config()), time_s=540.0, peak_memory_gib=1.5)
