"""The report of a run whose arms know more than they say. The numbers are made up."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from paft_ray.config import parse_config
from paft_ray.errors import UserError
from paft_ray.report.figure_tables import collapsed_templates, figure_tables
from paft_ray.report.inputs import History, Measured
from paft_ray.report.render import write_report
from paft_ray.report.results import Results, results
from paft_ray.report.tables import Given, template_rows, worst_templates
from paft_ray.stages.registry import REPORTED
from paft_ray.storage.artifacts import OUTCOMES
from paft_ray.storage.manifests import ModelKey
from paft_ray.storage.store import Store
from tests.support import made_stage as stages
from tests.support.silent_run import ARMS, LABELS, silent_run

CONFIG = parse_config({"name": "made-up", "task": "demo", "report": {"num_bootstrap": 100}}, source="test")


def result_of(run: Store, **changes: Any) -> Results:
    measured = Measured.of(run, LABELS)
    settings = CONFIG.report.model_copy(update=changes)
    return results(measured, History.of(run, REPORTED), settings, CONFIG.seed)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return silent_run(tmp_path_factory.mktemp("silent") / "run")


@pytest.fixture(scope="module")
def found(run: Store) -> Results:
    return result_of(run)


def test_what_an_arm_says_stands_next_to_what_it_knows(found: Results) -> None:
    values = found.values
    assert (values["headline"], values["schema_version"], values["confidence"]) == ("behavior", 2, 0.95)
    for name, (known, silent) in ARMS.items():
        arm = values["arms"][name]
        measures = {measure: row["mean"] for measure, row in arm["measures"].items()}
        assert measures["knowledge"] == pytest.approx(known, abs=0.06)
        assert arm["mean"] == measures["behavior"] == measures["strict"]
        assert arm["named_rate"] == pytest.approx(1 - int(24 * silent + 0.5) / 24, abs=0.05)
        assert arm["parse_failure_rate"] == pytest.approx(1 - arm["named_rate"]), "measured, not constant"
        assert arm["label_mass"] == pytest.approx(0.9 * arm["named_rate"] + 0.01 * (1 - arm["named_rate"]), abs=1e-6)
        assert arm["balanced_accuracy"] == pytest.approx(arm["mean"]), "labels are equally many here"
    gap = values["differences"]["paft-sft"]
    assert gap["mean"] > gap["measures"]["knowledge"]["mean"] > 0, "label choice hides most of it"
    assert gap["is_primary"]
    assert 0 < gap["std_ratio"]["low"] <= gap["std_ratio"]["value"] <= gap["std_ratio"]["high"] < 1
    assert gap["decile"]["low"] <= gap["decile"]["mean"] <= gap["decile"]["high"]


def test_silent_templates_are_named_as_collapsed(run: Store, found: Results) -> None:
    arms = found.values["arms"]
    assert {name: len(row["collapsed"]) for name, row in arms.items()} == {"base": 22, "sft": 12, "paft": 0}
    assert arms["sft"]["measures"]["knowledge"]["collapsed"] == []
    assert all((row["answer"], row["fraction"]) == (None, 1.0) for row in arms["sft"]["collapsed"])
    rows = template_rows(Measured.of(run), found.by_measure)
    (base, sft) = collapsed_templates(found.values, rows)
    assert (base.arm, sft.arm, list(sft.by_answer)) == ("base", "sft", [None])
    assert sft.by_answer[None] == tuple(range(1, 13)), "the lowest of sft come first"


def test_few_rows_are_not_called_collapsed(tmp_path: Path) -> None:
    few = silent_run(tmp_path / "few", num_examples=19)
    assert all(row["collapsed"] == [] for row in result_of(few).values["arms"].values())


def test_groups_of_templates_are_reported_apart(found: Results) -> None:
    groups = found.values["groups"]
    assert list(groups) == ["chatty", "plain"]
    arms = found.values["arms"]
    for group in groups.values():
        assert group["num_templates"] == len(group["templates"]) == 12
        assert list(group["arms"]) == ["base", "sft", "paft"]
        assert group["arms"]["sft"]["low"] < group["arms"]["sft"]["mean"] < group["arms"]["sft"]["high"]
        assert set(group["differences"]["paft-sft"]["measures"]) == {"strict", "knowledge"}
    for name, row in arms.items():
        assert sum(group["arms"][name]["mean"] for group in groups.values()) / 2 == pytest.approx(row["mean"])


def test_templates_without_a_group_are_one_of_their_own_and_no_group_is_none(tmp_path: Path) -> None:
    mixed = result_of(silent_run(tmp_path / "mixed", groups=("plain", None))).values
    assert list(mixed["groups"]) == ["other", "plain"]
    assert result_of(silent_run(tmp_path / "none", groups=(None,))).values["groups"] == {}


def test_calibration_is_a_control_of_knowledge(found: Results) -> None:
    values = found.values
    assert list(values["calibration"]) == ["base+cal", "sft+cal", "paft+cal"]
    assert list(values["most_probable"]) == ["base", "sft", "paft"]
    assert list(values["calibration_differences"]) == ["paft-sft", "paft-sft+cal", "paft+cal-sft+cal"]
    assert values["calibration_verdict"] in values["findings"]
    assert "calibration alone does not close the gap" in values["calibration_verdict"]


def test_calibration_is_compared_with_the_most_probable_label_and_not_with_the_greedy_one(tmp_path: Path) -> None:
    """As with labels that begin alike: greedy decoding of sft ends in a label that is not the most probable one."""
    run = silent_run(tmp_path / "long", num_templates=12)
    before, table = result_of(run).values, OUTCOMES.read(run)
    rows = table.to_pylist()
    other = dict(zip(LABELS, reversed(LABELS), strict=True))
    predicted = [other[row["predicted"]] if row["arm"] == "sft" else row["predicted"] for row in rows]
    correct = [label == row["answer"] for label, row in zip(predicted, rows, strict=True)]
    for name, column in (("predicted", predicted), ("correct", correct)):
        table = table.set_column(table.column_names.index(name), name, [column])
    stages.evaluated(run, table)
    after = result_of(run).values
    known, flipped = (values["arms"]["sft"]["measures"]["knowledge"]["mean"] for values in (before, after))
    assert flipped == pytest.approx(1 - known)
    assert before["most_probable"]["sft"]["mean"] == pytest.approx(known), "labels that begin differently"
    for key in ("most_probable", "calibration", "calibration_differences", "calibration_verdict"):
        assert before[key] == after[key], "greedy decoding has no part in the control"


def test_without_labels_or_with_a_budget_nothing_is_calibrated(run: Store, tmp_path: Path) -> None:
    unlabeled = results(Measured.of(run), History.of(run, REPORTED), CONFIG.report, 0).values
    assert (unlabeled["calibration"], unlabeled["calibration_verdict"]) == ({}, None)
    part = silent_run(tmp_path / "part")
    stages.evaluated(part, OUTCOMES.read(part), budget=0.5)
    values = result_of(part).values
    assert (values["calibration"], values["calibration_verdict"]) == ({}, None)
    assert values["groups"]["plain"]["arms"]["sft"]["low"] is None
    assert values["groups"]["plain"]["differences"] == {}


def test_free_text_has_no_knowledge_and_scores_between_right_and_wrong_have_no_flips(tmp_path: Path) -> None:
    run = silent_run(tmp_path / "free", arms={"sft": (0.7, 0.0), "paft": (0.9, 0.0)})
    table = OUTCOMES.read(run)
    empty = {
        name: pa.nulls(len(table), table.schema.field(name).type) for name in ("label_logprobs", "label_mass", "said")
    }
    half = pa.array([0.5 if value else 0.0 for value in table["correct"].to_pylist()], pa.float32())
    for name, column in {**empty, "behavior": half, "strict": half}.items():
        table = table.set_column(table.column_names.index(name), name, column)
    stages.evaluated(run, table)
    values = write_report(run, config=CONFIG, stages=REPORTED).values
    assert list(values["arms"]["paft"]["measures"]) == ["behavior", "strict"]
    assert values["arms"]["paft"]["named_rate"] is values["arms"]["paft"]["balanced_accuracy"] is None
    assert values["arms"]["paft"]["sensitivity"] is None
    assert values["arms"]["paft"]["mean"] == pytest.approx(0.45, abs=0.03)
    page = run.read_bytes("report/report.html").decode()
    assert 'id="flips"' not in page
    assert "Knowledge" not in page
    assert page.count("<img") == 2, "arms and templates"


def test_without_unconstrained_answers_knowledge_is_the_headline(tmp_path: Path) -> None:
    run = silent_run(tmp_path / "old")
    table = OUTCOMES.read(run)
    for name in ("behavior", "strict", "named", "said", "num_tokens", "label_mass"):
        column = pa.nulls(len(table), table.schema.field(name).type)
        table = table.set_column(table.column_names.index(name), name, column)
    stages.evaluated(run, table)
    values = result_of(run).values
    assert (values["headline"], list(values["arms"]["sft"]["measures"])) == ("knowledge", ["knowledge"])
    assert "judged by answers constrained to the labels" in values["verdict"]


@pytest.mark.parametrize(
    ("seeds", "said"),
    [((0,), "for these weights (one seed)"), ((0, 1), "over 2 seeds"), ((0, 1, 2), "paft is better than sft")],
)
def test_better_needs_three_seeds(tmp_path: Path, seeds: tuple[int, ...], said: str) -> None:
    run = silent_run(tmp_path / "run", seeds=seeds, num_templates=12, arms={"sft": (0.5, 0.5), "paft": (0.9, 0.0)})
    verdict = result_of(run).values["verdict"]
    assert said in verdict
    assert "judged by unconstrained answers" in verdict
    assert ("better" in verdict) == (len(seeds) == 3)


def test_the_primary_comparison_is_the_one_that_is_named(run: Store) -> None:
    values = result_of(run, primary="paft-base").values
    assert values["primary"] == "paft-base"
    assert values["differences"]["paft-base"]["is_primary"]
    assert values["verdict"].startswith("paft is ")
    assert " above base on held-out templates" in values["verdict"]
    with pytest.raises(UserError, match=r"report\.primary=sft-paft: no such difference"):
        result_of(run, primary="sft-paft")


def test_a_wrong_answer_shows_what_was_said(run: Store, found: Results) -> None:
    rows = template_rows(Measured.of(run), found.by_measure)
    assert rows[0].accuracy["sft"] == 0 < rows[0].knowledge["sft"]
    assert rows[0].group in ("chatty", "plain")
    worst = worst_templates(Measured.of(run), rows, "sft")[0]
    assert worst.num_failures == 24
    assert worst.failures[0].given == Given(text="", parsed=False)


def test_a_text_that_could_not_be_judged_is_shown_from_the_table_of_texts(run: Store, found: Results) -> None:
    outcomes = OUTCOMES.read(run).select(["arm", "seed", "template_id", "example_id"])
    texts = outcomes.append_column("text", pa.array([f"I think {row['example_id']}" for row in outcomes.to_pylist()]))
    measured = replace(Measured.of(run), texts=texts)
    failures = worst_templates(measured, template_rows(measured, found.by_measure), "sft")[0].failures
    assert failures
    assert all(failure.given.text == f"I think e{failure.fields['text'].split()[1]:0>3}" for failure in failures)


def test_page_and_markdown_show_the_same_tables(run: Store) -> None:
    write_report(run, config=CONFIG, stages=REPORTED, measured=Measured.of(run, LABELS))
    page, text = (run.read_bytes(f"report/report.{form}").decode() for form in ("html", "md"))
    shown = re.findall(r'<p class="caption" id="about-(\w[\w-]*)">(.*?)</p>', page)
    figures = {"accuracy", "spread", "answers", "differences", "spread-differences", "groups", "calibration"}
    assert figures <= {name for name, _ in shown}
    for name, caption in shown:
        if name in figures:
            assert re.sub("[^A-Za-z ]", "", caption)[:60] in re.sub("[^A-Za-z ]", "", text)
    for sentence in ("Templates under which an arm gives one answer", "Calibration control", "nothing that could be"):
        assert sentence in page
        assert sentence in text
    assert page.count("<img") == 3, "arms, templates, knowledge of templates"


def test_too_few_right_answers_have_no_time_and_say_so(run: Store) -> None:
    few = {"num_rows": 3, "num_asked": 96, "reason": "3 of 96 sampled answers are right"}
    enough = {"tokens_per_answer": 2.0, "tokens_low": 1.9, "tokens_high": 2.1, "num_rows": 90, "num_asked": 96}
    measured = replace(Measured.of(run), speed={ModelKey("sft", 0): few, ModelKey("paft", 0): enough})
    found = results(measured, History.of(run, REPORTED), CONFIG.report, 0)
    arms = found.values["arms"]
    assert (arms["sft"]["tokens_per_answer"], arms["paft"]["tokens_per_answer"]) == (None, 2.0)
    assert arms["paft"]["speed"]["tokens"] == {"value": 2.0, "low": 1.9, "high": 2.1}
    assert arms["paft"]["speed"]["seconds"] == {"value": None, "low": None, "high": None}
    assert figure_tables(found, CONFIG.report, where="all").notes == (
        "Tokens and time per right answer were not measured for base.",
        "Tokens and time per right answer are not given where fewer than 64 of the sampled answers of a seed are "
        "right: sft (3 of 96).",
    )


def test_an_answer_that_a_label_ended_is_said_to_be_an_upper_bound(tmp_path: Path) -> None:
    run = silent_run(tmp_path / "run", num_templates=12)
    plain = result_of(run)
    assert not any("upper bound" in note for note in figure_tables(plain, CONFIG.report, where="all").notes)
    table = OUTCOMES.read(run)
    short = pa.array([1 if arm != "base" else 3 for arm in table["arm"].to_pylist()], pa.int16())
    table = table.set_column(table.column_names.index("num_tokens"), "num_tokens", short)
    sample = {"num_rows": 3, "num_asked": 96, "reason": "few", "strict_misjudged": 5, "behavior_misjudged": 1}
    stages.evaluated(run, table, speed={ModelKey("sft", 0): sample, ModelKey("paft", 0): {**sample, "num_asked": 90}})
    found = result_of(run)
    arms = found.values["arms"]
    assert arms["base"]["label_ended_rate"] == 0 < arms["base"]["named_rate"]
    assert arms["sft"]["label_ended_rate"] == arms["sft"]["named_rate"] == 0.5, (
        "an answer of the end token alone is none"
    )
    tables = figure_tables(found, CONFIG.report, where="all")
    assert tables.notes[:3] == (
        "An answer ends at a token that is a label, and what would have stood behind it is not seen: strict is an "
        "upper bound there, and a longer word counts as the label. Answers that ended so at their first token: base "
        "0.0 %, sft 50.0 %, paft 100.0 %.",
        "Sampled answers, generated to their end, whose strict such an end would change: sft 5 of 96, paft 5 of 90.",
        "Sampled answers, generated to their end, whose behavior such an end would change: sft 1 of 96, paft 1 of 90.",
    )
    assert "It is an upper bound where a token that is a label ended the answer." in tables.arms[0].caption


def test_an_arm_whose_choice_is_not_known_leaves_the_others_theirs(run: Store) -> None:
    """Also where the primary comparison is with it: a server may not say its log-probabilities."""
    table = OUTCOMES.read(run)
    unknown = pa.array([arm == "sft" for arm in table["arm"].to_pylist()])
    for name in ("correct", "predicted", "logprob", "label_logprobs", "label_mass"):
        column = pc.if_else(unknown, pa.scalar(None, table[name].type), table[name])
        table = table.set_column(table.column_names.index(name), name, column)
    measured = replace(Measured.of(run, LABELS), outcomes=table)
    settings = CONFIG.report.model_copy(update={"primary": "paft-sft"})
    values = results(measured, History.of(run, REPORTED), settings, 0).values
    assert values["differences"]["paft-sft"]["is_primary"]
    assert values["differences"]["paft-sft"]["measures"].keys() == {"strict"}
    assert "knowledge" in values["differences"]["paft-base"]["measures"]
    assert "knowledge" not in values["arms"]["sft"]["measures"]


def test_outcomes_of_an_earlier_version_end_in_one_line(run: Store, tmp_path: Path) -> None:
    table = OUTCOMES.read(run)
    old = table.drop_columns(table.column_names[table.column_names.index("behavior") : table.column_names.index("arm")])
    with pytest.raises(UserError, match="run stage evaluate again"):
        _ = Measured(outcomes=old, templates=Measured.of(run).templates, examples={}).arms
    earlier = silent_run(tmp_path / "earlier", num_templates=12)
    stages.evaluated(earlier, old)
    with pytest.raises(UserError, match="run stage evaluate again") as raised:
        Measured.of(earlier)
    assert len(str(raised.value).splitlines()) == 1
