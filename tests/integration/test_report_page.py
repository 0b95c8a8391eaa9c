"""What the page is made of: flips, provenance, cost, tables of figures, plots, policy. The numbers are made up."""

import base64
import hashlib
import re
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.metrics import ArmOutcomes
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.report import metric_tables
from paft_ray.report.check import Check
from paft_ray.report.cost import training_costs, worker_time
from paft_ray.report.flips import flips
from paft_ray.report.inputs import History, Measured
from paft_ray.report.page import render_sweep_page
from paft_ray.report.plots import arms_plot, curves_plot, styles, sweep_plot, template_plot
from paft_ray.report.provenance import origins
from paft_ray.report.render import write_report
from paft_ray.report.tables import Given, TemplateRow
from paft_ray.sanitize import holds_hidden
from paft_ray.stages.registry import REPORTED
from paft_ray.storage.manifests import ModelKey
from paft_ray.tasks.task import Example
from tests.support.made_outcomes import outcome_table
from tests.support.page_run import ATTACKS, SWEEP, config, hostile_run

CURVES = {ModelKey("sft", 0): [(1, 3.0)], ModelKey("paft", 0): [(1, 2.0), (2, 0.0)]}


def _measured(
    correct: list[list[bool]], answers: dict[tuple[int, int], str | None] | None = None
) -> tuple[Measured, list[TemplateRow], ArmOutcomes]:
    """One arm's seed with `correct` [templates][examples]; wrong answers are `no`, or as in `answers`. Template t has
    number t + 1."""
    templates = [PromptTemplate(text=f"{t} {{text}}") for t in range(len(correct))]
    rows = []
    for t, template in enumerate(templates):
        for e, right in enumerate(correct[t]):
            given_ = "yes" if right else (answers or {}).get((t, e), "no")
            row = {
                "arm": "sft",
                "seed": 3,
                "template_id": template.id,
                "example_id": f"e{e}",
                "answer": "yes",
                "correct": right,
                "logprob": -1.0,
            }
            rows.append({**row, "predicted": given_, "parsed": given_ is not None})
    measured = Measured(
        outcomes=outcome_table(rows),
        templates=PromptSet.of(Entry(template=t, split="held_out") for t in templates),
        examples={"e0": Example(id="e0", fields={"text": "the first"}, answer="yes")},
    )
    ids = tuple(f"e{e}" for e in range(len(correct[0])))
    outcomes = ArmOutcomes(
        template_ids=tuple(t.id for t in templates),
        example_ids=ids,
        seeds=(3,),
        correct=np.array([correct], dtype=np.float64),
    )
    shown = [
        TemplateRow(number=t + 1, template=template, accuracy={"sft": float(np.mean(correct[t]))})
        for t, template in enumerate(templates)
    ]
    return measured, shown, outcomes


def test_flips_of_a_small_table_by_hand() -> None:
    # Example 0: right, right, wrong, not parsed; example 1 always right; example 2 always wrong; example 3: right under
    # the last template alone.
    table = [
        [True, True, False, False],
        [True, True, False, False],
        [False, True, False, False],
        [False, True, False, True],
    ]
    measured, rows, outcomes = _measured(table, {(3, 0): None})
    found = flips(measured, rows, "sft", outcomes)
    assert (found.num_examples, found.always_right, found.num_flipping, found.always_wrong) == (4, 1, 2, 1)
    assert found.pair_share == pytest.approx((4 + 3) / (6 * 4)), "4 of 6 pairs flip example 0, 3 of 6 example 3"
    first, second = found.examples
    assert first.fields == {"text": "the first"}
    assert (first.answer, first.right, first.num_wrong) == ("yes", (1, 2), 2)
    assert first.wrong == ((Given(text="no", parsed=True), (3,)), (Given(text="", parsed=False), (4,)))
    assert (second.fields, second.right, second.num_wrong) == ({"id": "e3"}, (4,), 3), (
        "an example that is not at hand is shown by its id"
    )
    assert [(pair.first, pair.second, pair.only_first, pair.only_second) for pair in found.pairs] == [
        (1, 4, 1, 1),
        (2, 4, 1, 1),
        (1, 3, 1, 0),
        (2, 3, 1, 0),
        (3, 4, 0, 1),
    ], "templates 1 and 2 never differ"


@given(
    st.integers(2, 5).flatmap(
        lambda t: st.integers(1, 6).flatmap(
            lambda e: st.lists(st.lists(st.booleans(), min_size=e, max_size=e), min_size=t, max_size=t)
        )
    )
)
def test_flips_are_the_differing_pairs(correct: list[list[bool]]) -> None:
    measured, rows, outcomes = _measured(correct)
    found = flips(measured, rows, "sft", outcomes, num_pairs=100)
    differing = {
        (a + 1, b + 1): sum(x != y for x, y in zip(correct[a], correct[b], strict=True))
        for a, b in combinations(range(len(correct)), 2)
    }
    assert {(pair.first, pair.second): pair.num_flips for pair in found.pairs} == {
        pair: number for pair, number in differing.items() if number
    }
    assert found.pair_share == pytest.approx(sum(differing.values()) / (len(differing) * len(correct[0])))


def test_templates_that_the_prompt_set_lacks_have_no_flips() -> None:
    measured, rows, outcomes = _measured([[True], [False], [True]])
    found = flips(measured, rows[:2], "sft", outcomes)
    assert [(pair.first, pair.second) for pair in found.pairs] == [(1, 2)]
    assert found.examples[0].right == (1,)


def test_every_template_has_its_provenance() -> None:
    seed, written, given_ = (PromptTemplate(text=f"{name} {{text}}") for name in ("seed", "written", "given"))
    origin = {"source": "org/writer", "strategy": "few_shot", "axes": {"tone": "polite", "order": "question first"}}
    prompts = PromptSet.of(
        [
            Entry(template=given_, split="held_out", cluster=2, provenance={"source": "user"}),
            Entry(template=written, cluster=1, provenance=origin),
            Entry(template=seed, cluster=0, provenance={"source": "seed"}),
        ]
    )
    rows = [TemplateRow(number=7, template=given_, accuracy={})]
    found = {row.template.text: row for row in origins(prompts, {written.id: 0.5}, rows)}
    assert [row.split for row in origins(prompts, {}, rows)] == ["train", "train", "held_out"]
    row = found["written {text}"]
    assert (row.source, row.generator, row.strategy) == ("generated", "org/writer", "few_shot")
    assert (row.axes, row.score, row.number, row.cluster) == ("tone: polite, order: question first", 0.5, None, 1)
    assert (found["given {text}"].source, found["given {text}"].number, found["given {text}"].score) == (
        "user",
        7,
        None,
    )
    assert found["seed {text}"].generator is None


def test_curves_tokens_and_worker_time_come_from_the_trainings(tmp_path: Path) -> None:
    history = History.of(hostile_run(tmp_path), REPORTED)
    assert history.validation_losses[ModelKey("sft", 1)][0] == (10.0, pytest.approx(1.0))
    assert history.validation_accuracies[ModelKey("paft", 0)][-1] == (40.0, 0.8)
    assert len(history.losses[ModelKey("paft", 0)]) == 40
    assert [cost.tokens for cost in training_costs(history)] == [12000] * 4
    assert worker_time(history, 2) == 2 * (90 + 180 + 90 + 180)
    assert History.of(hostile_run(tmp_path / "alone", sweep=False), REPORTED).sweep == {}


def test_a_column_without_a_figure_is_left_out() -> None:
    arms: dict[str, dict] = {
        "base": {"measures": {"knowledge": {"mean": 0.5, "low": None, "high": None}}, "named_rate": None},
        "sft": {"measures": {"knowledge": {"mean": 0.75, "low": 0.7, "high": 0.8}}, "named_rate": None},
    }
    table = metric_tables.measures_table(arms, confidence=0.9, where="12 templates")
    assert table.head == ("knowledge", "90 % interval")
    assert [cell.text for cell in table.rows["sft"]] == ["75.0", "70.0 to 80.0"]
    assert [(cell.text, cell.value) for cell in table.rows["base"]] == [("50.0", 0.5), ("–", None)]
    assert "Strict" not in table.caption, "what was not measured is not explained"
    assert metric_tables.spread_table(arms, confidence=0.9, threshold=0.8, headline="knowledge").head == ()
    assert metric_tables.estimated_table(arms) is None
    assert metric_tables.group_table({}, confidence=0.9, headline="behavior") is None
    assert metric_tables.calibration_table({}, {}, confidence=0.9) is None


def test_budgeted_figures_are_shown_with_their_budget() -> None:
    arms = {
        "sft": {
            "mean": 0.7,
            "estimated": {
                "budget": 0.1,
                "mean": 0.71,
                "low": 0.66,
                "high": 0.75,
                "quantiles": {"0.9": 0.8, "0.1": 0.6, "0.5": 0.7},
            },
        }
    }
    table = metric_tables.estimated_table(arms)
    assert table is not None
    assert "10 % of all (template, example) cells" in table.caption
    assert dict(zip(table.head, (cell.text for cell in table.rows["sft"]), strict=True)) == {
        "mean": "71.0",
        "interval": "66.0 to 75.0",
        "10 %": "60.0",
        "median": "70.0",
        "90 %": "80.0",
    }


def test_a_difference_says_what_was_decided() -> None:
    gap = {
        "mean": 0.15,
        "low": 0.06,
        "high": 0.24,
        "p_value": 0.0001,
        "p_adjusted": 0.012,
        "detectable": 0.05,
        "decisive": True,
        "num_seeds": 3,
    }
    table = metric_tables.difference_table(
        {"paft − sft": gap, "sft − base": {"mean": -0.01}}, confidence=0.95, headline="behavior"
    )
    assert [cell.text for cell in table.rows["paft − sft"]] == [
        "+15.0",
        "+6.0 to +24.0",
        "< 0.001",
        "0.012",
        "5.0",
        "yes",
        "3",
    ]
    assert {cell.text for cell in table.rows["sft − base"][1:]} == {"–"}
    assert "corrected for 1 comparison," in table.caption, "one has no p-value"


def test_each_arm_has_a_color_and_a_marker_of_its_own() -> None:
    found = styles(["base", "sft", "top_accuracy", "paft", "mine", "yours"])
    assert len({color for color, _ in found.values()}) == len({marker for _, marker in found.values()}) == 6
    assert found["paft"] == styles(["paft"])["paft"], "the same in every report"


def test_plots_of_many_templates_and_arms_are_drawn_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    arms = ["base", "sft", "top_accuracy", "paft", "mine", "yours"]
    rows = [
        TemplateRow(
            number=n, template=PromptTemplate(text="{text}"), accuracy={arm: float(rng.random()) for arm in arms}
        )
        for n in range(1, 51)
    ]
    values = {arm: {"mean": 0.5, "low": 0.4, "high": 0.6} for arm in arms[:-1]} | {"yours": {"mean": 0.7}}
    svg = template_plot(rows, arms, label="behavior: accuracy, %")
    height = float(re.search(rb'height="([\d.]+)pt"', svg)[1])
    assert height < 72 * 10, "50 templates fit a sheet"
    assert svg == template_plot(rows, arms, label="behavior: accuracy, %")
    assert b"<svg" in arms_plot(rows, values, label="behavior: accuracy, %")
    assert b"<svg" in curves_plot(CURVES, label="loss", noisy=True)


def test_the_sweep_is_drawn_with_and_without_spread_and_fit() -> None:
    bare = [{"size": point["size"], "mean": point["mean"], "low": None, "high": None} for point in SWEEP["curve"]]
    full = sweep_plot(SWEEP["curve"], SWEEP["sizes"], fit=SWEEP["fit"], recommended=4)
    assert len(full) > len(sweep_plot(bare, SWEEP["sizes"]))
    assert sweep_plot(bare, SWEEP["sizes"], form="png").startswith(b"\x89PNG")


def test_the_page_of_a_sweep_gives_recommendation_curve_and_trials() -> None:
    page = render_sweep_page(title="made-up", config=config(), sweep=SWEEP)
    assert "Recommended: 4 training templates. The largest is the best." in page
    assert "1: 65.0 %; 2: 70.0 %; 4: 80.0 %. Recommended: 4." in page, "the plot in words"
    assert "85.0 − 30.0 × size^(−0.70)" in page
    assert "Trials: 6 finished, 0 failed, 2 reused; 6 engine starts (6 planned)." in page
    assert "All 6 trials" in page
    least = {key: SWEEP[key] for key in ("sizes", "curve")}
    assert "Recommended" not in render_sweep_page(title="made-up", config=config(), sweep=least)
    unfitted = render_sweep_page(
        title="made-up",
        config=config(),
        sweep={**least, "fit": {"asymptote": None, "reason": "only 3 sizes"}},
    )
    assert "No saturation curve: only 3 sizes." in unfitted


def test_the_policy_admits_the_pages_own_script_and_style_alone(tmp_path: Path) -> None:
    run = hostile_run(tmp_path)
    write_report(run, config=config(), stages=REPORTED)
    for page in (
        run.read_bytes("report/report.html").decode(),
        render_sweep_page(title=run.name, config=config(), sweep=SWEEP),
    ):
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
        assert "unsafe" not in policy
        assert policy.startswith("default-src 'none'; ")
        for element in ("script", "style"):
            (content,) = re.findall(rf"<{element}>(.*?)</{element}>", page, re.S)
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"{element}-src 'sha256-{digest}'" in policy
        assert not any(attack in page for attack in ATTACKS)
        assert not holds_hidden(page)
        assert not re.search(r"<[^>]*\s(style|on\w+)=", page)
    markdown = run.read_bytes("report/report.md").decode()
    assert not holds_hidden(markdown)
    assert not re.search(r"<(script|img|svg|b)\b", markdown)
    assert sorted(path.name for path in (Path(run.root) / "report").iterdir()) == [
        "report.html",
        "report.md",
        "results.json",
        "sweep.json",
    ], "no table a spreadsheet opens"


def test_a_sweep_of_the_run_is_not_shown_with_another_evaluation(tmp_path: Path) -> None:
    run = hostile_run(tmp_path)
    write_report(run, config=config(), stages=REPORTED)
    assert 'id="sweep"' in run.read_bytes("report/report.html").decode()
    own = Measured.of(run)
    given_ = Measured(outcomes=own.outcomes, templates=own.templates, examples=own.examples, manifest={"time_s": 1.0})
    write_report(run, config=config(), stages=REPORTED, measured=given_, folder="own")
    assert 'id="sweep"' not in run.read_bytes("own/report.html").decode()


def test_checks_stand_in_all_three_files(tmp_path: Path) -> None:
    run = hostile_run(tmp_path)
    made = [
        Check(model=ATTACKS[0], what="worst >= 0.6", passed=False, said=f"worst 55.0 % {ATTACKS[1]}"),
        Check(model="base", what="mean >= 0.1", passed=True, said="mean 60.0 %, at least 10.0 % wanted"),
    ]
    written = write_report(run, config=config(), stages=REPORTED, checks=lambda values: made)
    assert [check["passed"] for check in written.values["checks"]] == [False, True]
    assert run.read_json("report/results.json")["checks"][1] == asdict(made[1])
    page, text = (run.read_bytes(f"report/report.{kind}").decode() for kind in ("html", "md"))
    assert not any(attack in page or attack in text for attack in ATTACKS[:2])
    assert page.count("FAILED") == 1
    assert "| passed | base | mean 60.0 %, at least 10.0 % wanted |" in text
    write_report(run, config=config(), stages=REPORTED, checks=lambda values: [])
    assert "## Checks" not in run.read_bytes("report/report.md").decode()
    assert 'id="checks"' not in run.read_bytes("report/report.html").decode()
