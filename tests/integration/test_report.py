"""Reports of a made-up run: the numbers are drawn in this file and stand for no measurement."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from paft_ray.config import Config, builtin, parse_config
from paft_ray.errors import UserError
from paft_ray.metrics.cell_sampling import sample_cells
from paft_ray.prompts.prompt_set import Entry, PromptSet, read_templates
from paft_ray.prompts.template import PromptTemplate
from paft_ray.report.inputs import Measured
from paft_ray.report.render import write_report
from paft_ray.stages.registry import REPORTED, STAGES
from paft_ray.storage.artifacts import OUTCOMES, SCORE_TABLE, SPEED
from paft_ray.storage.manifests import ModelKey
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example
from tests.support import made_stage as stages
from tests.support.made_outcomes import outcome_table
from tests.support.resolved import resolved

HOSTILE = '<script>alert("t")</script><img src="https://example.org/x.png"> {text}'
HOSTILE_FIELD = '</td></table><script src=https://example.org/a.js></script> & "quotes" | pipe\n# heading'
LEVELS = {"base": (0.55, 0.09), "sft": (0.74, 0.09), "top_accuracy": (0.77, 0.07), "paft": (0.87, 0.02)}
SPEED_OF_A_MODEL = {
    "tokens_per_answer": 2.0,
    "tokens_low": 1.9,
    "tokens_high": 2.1,
    "seconds_per_answer": 0.11,
    "seconds_low": 0.1,
    "seconds_high": 0.12,
    "num_rows": 70,
}
DOCUMENTED = {
    "schema_version",
    "headline",
    "confidence",
    "primary",
    "arms",
    "differences",
    "groups",
    "most_probable",
    "calibration",
    "calibration_differences",
    "calibration_verdict",
    "timings_s",
    "engine_starts",
    "peak_memory_gib",
    "verdict",
    "findings",
}
OF_A_MEASURE = {
    "mean",
    "low",
    "high",
    "std",
    "std_noise_corrected",
    "quantiles",
    "decile",
    "worst",
    "worst_shrunken",
    "best",
    "share_above",
    "intervals",
    "consistency",
    "sensitivity",
    "parse_failure_rate",
    "balanced_accuracy",
    "collapsed",
    "num_templates",
    "num_examples",
    "num_seeds",
}
OF_A_DIFFERENCE = {
    "first",
    "second",
    "mean",
    "low",
    "high",
    "p_value",
    "p_adjusted",
    "is_primary",
    "grid",
    "detectable",
    "decisive",
    "num_seeds",
    "std_ratio",
    "decile",
    "measures",
}
ONLY_OF_THE_WHOLE_GRID = [
    "balanced_accuracy",
    "decile",
    "std_noise_corrected",
    "quantiles",
    "low",
    "high",
    "worst",
    "worst_shrunken",
    "best",
    "share_above",
    "intervals",
    "consistency",
    "sensitivity",
]


def config(**report: object) -> Config:
    return parse_config({"name": "made-up", "task": "demo", "report": {"num_bootstrap": 400, **report}}, source="test")


def prompt_set(num_held_out: int) -> PromptSet:
    folder = builtin("tasks", "data", "demo")
    held_out = [
        *read_templates(folder / "held_out_templates.jsonl")[: num_held_out - 1],
        PromptTemplate(text=HOSTILE, system="<b>system</b>"),
    ]
    seeds = read_templates(folder / "seed_templates.jsonl")
    return PromptSet.of(
        [Entry(template=t, provenance={"source": "seed"}) for t in seeds]
        + [Entry(template=t, split="held_out", provenance={"source": "user"}) for t in held_out]
    )


def examples(number: int) -> list[Example]:
    lines = builtin("tasks", "data", "demo", "test.jsonl").read_text(encoding="utf-8").splitlines()[: number - 1]
    rows = [json.loads(line) for line in lines]
    return [Example(id=row["id"], fields={"text": row["text"]}, answer=row["label"]) for row in rows] + [
        Example(id="hostile", fields={"text": HOSTILE_FIELD}, answer="positive")
    ]


def outcomes(
    templates: PromptSet, rows: list[Example], arms: dict[str, tuple[float, float]], seeds: tuple[int, ...] = (0,)
) -> pa.Table:
    """Made-up answers: each template has an accuracy near the arm's level; the hostile example is always wrong."""
    rng = np.random.default_rng(0)
    found = []
    for arm, (level, spread) in arms.items():
        for seed in (-1,) if arm == "base" else seeds:
            for template in templates.templates:
                accuracy = np.clip(rng.normal(level, spread), 0, 1)
                for example in rows:
                    correct = example.id != "hostile" and bool(rng.random() < accuracy)
                    other = "negative" if example.answer == "positive" else "positive"
                    parsed = correct or example.id == "hostile" or bool(rng.random() < 0.95)
                    found.append(
                        {
                            "arm": arm,
                            "seed": seed,
                            "template_id": template.id,
                            "example_id": example.id,
                            "answer": example.answer,
                            "predicted": (example.answer if correct else other) if parsed else None,
                            "parsed": parsed,
                            "correct": correct,
                            "logprob": -20.0 if example.id == "hostile" else float(-rng.random()),
                        }
                    )
    return outcome_table(found)


def made_up_run(
    folder: Path,
    *,
    num_held_out: int = 13,
    num_examples: int = 40,
    seeds: tuple[int, ...] = (0,),
    optional: bool = True,
    levels: dict[str, tuple[float, float]] | None = None,
) -> Store:
    run = Store(str(folder / "made-up"))
    templates, rows = prompt_set(num_held_out), examples(num_examples)
    rejected = {"unfilled slot": 9, "<i>near-copy</i>": 4, "missing {text}": 21}
    asked = {"asked": 16, "kept": 11, "rejected": rejected, "grammar_share": 0.12}
    stages.synthesized(run, templates, time_s=95.0, engine_starts=1, **asked)
    stages.prepared(run, {"test": rows}, time_s=0.42)
    names = [ModelKey.BASE, *(ModelKey(arm, seed) for arm in ("sft", "top_accuracy", "paft") for seed in seeds)]
    stages.evaluated(
        run,
        outcomes(templates.split("held_out"), rows, levels or LEVELS, seeds),
        dict.fromkeys(names, SPEED_OF_A_MODEL) if optional else {},
        time_s=310.4,
        engine_starts=4,
        num_failed=0,
        key={"versions": {"ray": "0.0"}},
    )
    if optional:
        _optional_stages(run, templates, names[1:])
    return run


def _optional_stages(run: Store, templates: PromptSet, names: list[ModelKey]) -> None:
    train = templates.split("train").templates
    scores = pa.Table.from_pylist([{"template_id": t.id, "accuracy": 0.6} for t in train])
    outputs = SCORE_TABLE.write(run, scores)
    stages.finish_stage(run, "score", outputs, time_s=40.0, engine_starts=1, best=train[0].id)
    rng = np.random.default_rng(1)
    models = []
    for name in names:
        lines = [{"step": s, "loss": float(0.2 + np.exp(-s / 20) + 0.1 * rng.random())} for s in range(1, 76)]
        found = {"num_templates": 16 if name.arm == "paft" else 1, "num_steps": 75, "train_time_s": 150.0}
        models.append(stages.trained_arm(run, name, metrics=lines, **found))
    stages.trained(run, models, key=stages.train_key(config()), time_s=20.0, peak_memory_gib=3.25)


def test_results_hold_the_documented_keys(tmp_path: Path) -> None:
    run = made_up_run(tmp_path)
    found = write_report(run, config=config(), stages=REPORTED).values
    assert found == run.read_json("report/results.json")
    assert set(found) == DOCUMENTED
    assert (found["schema_version"], found["headline"], found["primary"]) == (2, "behavior", "paft-sft")
    assert list(found["arms"]) == ["base", "sft", "top_accuracy", "paft"]
    for arm in found["arms"].values():
        assert set(arm) == OF_A_MEASURE | {
            "named_rate",
            "label_ended_rate",
            "label_mass",
            "tokens_per_answer",
            "seconds_per_answer",
            "speed",
            "measures",
        }
        assert list(arm["measures"]) == ["behavior", "strict", "knowledge"]
        assert all(set(measure) == OF_A_MEASURE for measure in arm["measures"].values())
        assert {key: arm[key] for key in OF_A_MEASURE} == arm["measures"]["behavior"], "the headline"
    paft = found["arms"]["paft"]
    assert list(paft["quantiles"]) == ["0.1", "0.25", "0.5", "0.75", "0.9"]
    assert paft["worst"] <= paft["worst_shrunken"] <= paft["quantiles"]["0.5"] <= paft["best"]
    assert paft["low"] < paft["mean"] < paft["high"]
    assert (paft["tokens_per_answer"], paft["seconds_per_answer"]) == (2.0, 0.11)
    assert paft["speed"]["seconds"] == {"value": 0.11, "low": 0.1, "high": 0.12}
    assert next(iter(found["differences"])) == "paft-sft"
    assert set(found["differences"]) == {
        "paft-sft",
        "paft-base",
        "paft-top_accuracy",
        "sft-base",
        "top_accuracy-base",
        "top_accuracy-sft",
    }
    gap = found["differences"]["paft-sft"]
    assert gap["mean"] == pytest.approx(found["arms"]["paft"]["mean"] - found["arms"]["sft"]["mean"])
    assert set(gap) == OF_A_DIFFERENCE
    assert set(gap["measures"]) == {"strict", "knowledge"}
    assert gap["measures"]["knowledge"]["low"] < gap["measures"]["knowledge"]["high"]
    assert gap["low"] < gap["mean"] < gap["high"]
    assert gap["p_value"] == gap["p_adjusted"] < 0.05, "the primary comparison is not corrected"
    assert gap["is_primary"]
    other = found["differences"]["paft-base"]
    assert other["p_value"] < other["p_adjusted"]
    assert (gap["decisive"], gap["num_seeds"]) == (True, 1)
    text = run.read_bytes("report/report.md").decode()
    assert f"| paft − sft | +{100 * gap['mean']:.1f} |" in text
    assert "corrected for 5 comparisons, the primary one apart" in text
    assert found["engine_starts"] == 6
    assert found["peak_memory_gib"] == 3.25
    assert found["timings_s"] == {
        "prepare": 0.42,
        "synthesize": 95.0,
        "score": 40.0,
        "train": 450.0,
        "evaluate": 310.4,
    }, "an interrupted train stage counts all steps"
    assert found["verdict"].endswith("for these weights (one seed)")
    assert write_report(run, config=config(), stages=REPORTED).values == found, (
        "a second report gives the same intervals"
    )


def test_outside_text_is_escaped_and_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    run = made_up_run(tmp_path)
    write_report(run, config=config(), stages=REPORTED)
    page = run.read_bytes("report/report.html").decode()
    assert page.count("<script") == 1, "the page's own"
    assert "<b>system" not in page
    assert "<i>near-copy" not in page
    assert "&lt;script&gt;alert(&#34;t&#34;)&lt;/script&gt;" in page
    assert page.count("</td></table>") == 0
    sources = re.findall(r"""<[^>]*\b(?:src|href|srcset|action|data)\s*=\s*["']?([^"'\s>]+)""", page)
    sources = [source for source in sources if not source.startswith("#")]
    assert len(sources) == 4
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert "url(" not in page
    assert "@import" not in page
    assert re.findall(r'<img [^>]*alt="([^"]{40,})"', page), "plots carry text for those who cannot see them"
    text = run.read_bytes("report/report.md").decode()
    assert "<script" not in text
    assert "\n# heading" not in text


def test_absent_optional_artifacts_leave_a_shorter_report(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, optional=False)
    found = write_report(run, config=config(), stages=REPORTED).values
    assert found["peak_memory_gib"] is None
    assert found["arms"]["sft"]["seconds_per_answer"] is None
    assert found["timings_s"] == {"prepare": 0.42, "synthesize": 95.0, "evaluate": 310.4}
    page = run.read_bytes("report/report.html").decode()
    assert 'id="training"' not in page
    assert "Tokens and time per right answer were not measured for base, sft, top_accuracy, paft." in page


def test_too_few_templates_are_said_and_not_computed(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "eleven", num_held_out=11)
    found = write_report(run, config=config(), stages=REPORTED).values
    paft = found["arms"]["paft"]
    assert (
        paft["std"]
        is paft["worst"]
        is paft["worst_shrunken"]
        is paft["sensitivity"]
        is paft["quantiles"]["0.5"]
        is None
    )
    assert paft["low"] is not None, "intervals need eight templates only"
    assert found["differences"]["paft-sft"]["low"] is not None
    reason = "only 11 templates, at least 12 are needed"
    assert reason in run.read_bytes("report/report.html").decode()
    text = run.read_bytes("report/report.md").decode()
    assert reason in text
    assert "Intervals are not given" not in text
    few = made_up_run(tmp_path / "seven", num_held_out=7)
    found = write_report(few, config=config(), stages=REPORTED).values
    gap = found["differences"]["paft-sft"]
    assert (gap["low"], gap["p_value"], gap["p_adjusted"], gap["detectable"], gap["decisive"]) == (
        None,
        None,
        None,
        None,
        False,
    )
    assert found["arms"]["paft"]["low"] is None
    assert found["verdict"].endswith("no interval: only 7 templates, at least 8 are needed")
    assert (
        "Intervals are not given: only 7 templates, at least 8 are needed."
        in few.read_bytes("report/report.md").decode()
    )


def test_several_seeds_may_be_called_better_and_one_arm_is_no_comparison(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "seeds", seeds=(0, 1, 2))
    assert write_report(run, config=config(), stages=REPORTED).values["verdict"].startswith("paft is better than sft")
    alone = made_up_run(tmp_path / "alone", optional=False, levels={"base": (0.5, 0.1)})
    found = write_report(alone, config=config(), stages=REPORTED).values
    assert found["verdict"].startswith("only arm base was measured: 5")
    assert found["differences"] == {}


def test_another_evaluation_is_written_beside_the_run(tmp_path: Path) -> None:
    run = made_up_run(tmp_path)
    templates = PromptSet.of(
        Entry(template=PromptTemplate(text=f"Own wording {n}: {{text}}"), split="held_out") for n in range(12)
    )
    rows = examples(20)
    own = Measured(
        outcomes=outcomes(templates, rows, LEVELS),
        templates=templates,
        examples={e.id: e for e in rows},
        manifest={"engine_starts": 4, "time_s": 9.0},
    )
    found = write_report(
        run, config=config(), stages=REPORTED, measured=own, out=Store(str(tmp_path / "own")), folder=""
    ).values
    assert json.loads((tmp_path / "own" / "results.json").read_text()) == found
    assert (found["timings_s"], found["engine_starts"]) == ({"evaluate": 9.0}, 4), "of this evaluation alone"
    assert "on the given templates" in found["verdict"], "nothing shows that they are unlike the training templates"
    assert "Own wording 3" in (tmp_path / "own" / "report.html").read_text()
    assert (tmp_path / "own" / "report.md").is_file()
    assert not run.exists("report/results.json")


def test_the_stage_is_cached_and_needs_an_evaluation(tmp_path: Path) -> None:
    run = made_up_run(tmp_path)
    first = STAGES["report"].make(resolved(config(), run))
    assert first["verdict"] == run.read_json("report/results.json")["verdict"]
    assert run.read_bytes("report/model_card.md") == run.read_bytes("train/paft-s0/adapter/README.md")
    page = Path(run.path("report/report.html"))
    before = page.stat().st_mtime_ns
    assert STAGES["report"].make(resolved(config(), run)) == first
    assert page.stat().st_mtime_ns == before, "a finished stage does nothing"
    run.delete("report/report.md")
    assert STAGES["report"].make(resolved(config(), run))["outputs"] == first["outputs"]
    assert run.exists("report/report.md"), "a finished stage whose output is missing is made again"
    with pytest.raises(UserError, match=r"report\.threshold: 0.8 -> 0.7"):
        STAGES["report"].make(resolved(config(threshold=0.7), run))
    other = parse_config({"name": "made-up", "task": "demo", "train": {"learning_rate": 0.5}}, source="test")
    with pytest.raises(UserError, match=r"was trained with other settings \(train\.learning_rate: 0\.0001 -> 0\.5\)"):
        STAGES["report"].make(resolved(other, run))
    with pytest.raises(UserError, match="stage evaluate is not finished; run stage evaluate first"):
        STAGES["report"].make(resolved(config(), Store(str(tmp_path / "empty"))))


def test_a_report_of_a_part_of_the_cells_gives_estimates_and_refuses_the_rest(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, seeds=(0, 1))
    whole = write_report(run, config=config(), stages=REPORTED).values
    table = OUTCOMES.read(run)
    templates, examples = (sorted(set(table[name].to_pylist())) for name in ("template_id", "example_id"))
    cells = sample_cells(len(templates), len(examples), 0.2, 0)
    cells[:, 3] = False  # an example that was never asked belongs to the grid all the same
    rows = zip(table["template_id"].to_pylist(), table["example_id"].to_pylist(), strict=True)
    asked = table.filter(pa.array([bool(cells[templates.index(t), examples.index(e)]) for t, e in rows]))
    stages.evaluated(run, asked, SPEED.read(run), budget=0.2)
    found = write_report(run, config=config(), stages=REPORTED).values
    for name, row in found["arms"].items():
        estimated = row["estimated"]
        assert estimated["grid"] == "these cells"
        assert set(estimated) == {"budget", "grid", "mean", "low", "high", "quantiles", "refused"}
        assert set(estimated["quantiles"]) == {"0.1", "0.5", "0.9"}
        assert estimated["budget"] == pytest.approx(cells.mean())
        assert row["mean"] == estimated["mean"]
        assert estimated["low"] <= whole["arms"][name]["mean"] <= estimated["high"]
        assert abs(row["std"] - whole["arms"][name]["std"]) < 0.1
        assert row["num_examples"] == len(examples)
        of_measure = row["measures"]["behavior"]
        assert {key for key in of_measure if of_measure[key] is None} == set(ONLY_OF_THE_WHOLE_GRID)
    assert "estimated" not in whole["arms"]["paft"]
    gap = found["differences"]["paft-sft"]
    assert gap["low"] <= whole["differences"]["paft-sft"]["mean"] <= gap["high"]
    for form in ("md", "html"):
        assert "cells were answered (evaluate.budget)" in run.read_bytes(f"report/report.{form}").decode()
