"""benchmarks/recompute.py derives what a report says, without the product's own code."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import recompute, recompute_formulas
from paft_ray.config import parse_config
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.report.inputs import History, Measured
from paft_ray.report.results import results
from paft_ray.stages.registry import REPORTED
from paft_ray.storage.manifests import ModelKey
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example
from tests.support import made_stage as stages
from tests.support.made_outcomes import outcome_table

LEVELS = {"base": 0.4, "sft": 0.6, "top_accuracy": 0.7, "paft": 0.8}
SEEDS = {"base": (-1,), "sft": (0, 1, 2), "top_accuracy": (0,), "paft": (0, 1, 2)}


def made_up_run(folder: Path, *, num_templates: int = 24, absent: float = 0.02) -> Path:
    """Two groups of templates, three measures that differ, some rows that failed."""
    rng = np.random.default_rng(0)
    run = Store(str(folder / "run"))
    entries = [Entry(template=PromptTemplate(text=f"train {n} {{text}}"), provenance={}) for n in range(3)]
    entries += [
        Entry(
            template=PromptTemplate(text=f"{n} {{text}}"),
            split="held_out",
            provenance={"group": "plain" if n % 2 else "terse"},
        )
        for n in range(num_templates)
    ]
    prompts = PromptSet.of(entries)
    examples = [Example(id=f"e{n:02}", fields={"text": str(n)}, answer="no" if n % 3 else "yes") for n in range(25)]
    rows = []
    for arm, level in LEVELS.items():
        for seed in SEEDS[arm]:
            for template in prompts.split("held_out").templates:
                ease = rng.normal(level, 0.15)
                for example in examples:
                    other = "yes" if example.answer == "no" else "no"
                    chosen, said = (example.answer if rng.random() < ease - cost else other for cost in (0.0, 0.1))
                    named = said if rng.random() < 0.9 else None
                    if arm == "base" and template.text.startswith("1"):
                        chosen, named = "no", None  # collapsed
                    row = {
                        "arm": arm,
                        "seed": seed,
                        "template_id": template.id,
                        "example_id": example.id,
                        "answer": example.answer,
                        "predicted": chosen,
                        "parsed": True,
                        "correct": chosen == example.answer,
                        "behavior": float(named == example.answer),
                        "strict": float(named == example.answer and rng.random() < 0.8),
                        "named": named,
                        "logprob": float(-rng.random()),
                        "label_logprobs": [float(-rng.random()), float(-rng.random())],
                    }
                    if rng.random() >= absent:
                        rows.append(row)
    stages.synthesized(run, prompts, time_s=1.0, engine_starts=1)
    stages.prepared(run, {"test": examples})
    speed = {"tokens_per_answer": 2.5, "tokens_low": 2.0, "tokens_high": 3.0}
    speeds = {ModelKey(arm, seed): speed for arm, seeds in SEEDS.items() for seed in seeds}
    stages.evaluated(run, outcome_table(rows), speeds, time_s=1.0, engine_starts=1)
    settings = parse_config(
        {"name": "made-up", "task": "demo", "report": {"num_bootstrap": 40}, "evaluate": {"calibration": "batch"}},
        source="test",
    )
    found = results(Measured.of(run, ("no", "yes")), History.of(run, REPORTED), settings.report, settings.seed)
    run.write_json("report/results.json", found.values)
    root = folder / "run"
    (root / "config.json").write_text(json.dumps(settings.model_dump(mode="json")))
    (root / "task.json").write_text(json.dumps({"labels": {"no": "no", "yes": "yes"}}))
    return root


def test_every_figure_of_a_report_is_derived_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_up_run(tmp_path)
    differing, agreeing, rest = recompute.check(run)
    assert differing == []
    assert agreeing > 1000
    assert not [path for path in rest if not path.startswith("timings_s")]
    assert json.loads((run / "report" / "results.json").read_text())["arms"]["base"]["collapsed"]
    said = json.loads((run / "report" / "results.json").read_text())
    said["arms"]["paft"]["measures"]["strict"]["std"] += 2e-9
    said["differences"]["paft-sft"]["decisive"] = not said["differences"]["paft-sft"]["decisive"]
    (run / "report" / "results.json").write_text(json.dumps(said))
    assert recompute.main([str(run)]) == 1
    out = capsys.readouterr().out
    assert "arms.paft.measures.strict.std: results.json" in out
    assert "differences.paft-sft.decisive: results.json" in out
    assert ", 2 differ" in out


def test_few_templates_have_no_figures_of_spread_here_either(tmp_path: Path) -> None:
    differing, _, _ = recompute.check(made_up_run(tmp_path, num_templates=9, absent=0.0))
    assert differing == []


def test_nothing_of_the_product_is_imported() -> None:
    for module in (recompute, recompute_formulas):
        tree = ast.parse(Path(module.__file__).read_text())
        names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        assert not [name for name in names if str(name).startswith("paft_ray")]


def test_values_of_the_data_that_stand_for_one_label_are_one_label() -> None:
    task = {"labels": {"0": "negative", "1": "positive", "negative": "negative", "positive": "positive"}}
    assert recompute.labels_of(task) == ["negative", "positive"]
    assert recompute.labels_of({}) == []
