"""What a report says about the axes of a suite, from made-up outcomes."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from paft_ray.prompts.template import PromptTemplate
from paft_ray.prompts.variations import noise, options
from paft_ray.report.axes import UNCHANGED, Varied, axis_values
from paft_ray.report.axes_report import AxesReport
from paft_ray.storage.schemas import ANSWERS
from paft_ray.tasks.task import Example, load_task
from tests.support.made_outcomes import outcome_row, outcome_table

PIQA = load_task("piqa")
PLAIN = [
    PromptTemplate(text=f"{head} {{goal}}\nA: {{sol1}}\nB: {{sol2}}\nAnswer:") for head in ("Goal:", "Aim:", "How to")
]
ROWS = [
    Example(id=f"e{i:02}", fields={"goal": f"goal {i}", "sol1": "first", "sol2": "second"}, answer="AB"[i % 2])
    for i in range(20)
]
VARIANTS = [*noise.variants(PIQA, PLAIN, 0), *options.variants(PIQA, PLAIN, 0)]
CAPITALS = "fields in capitals"


def made(arm: str, hurt: str | None, by: int) -> list[dict[str, object]]:
    """An arm that is right but for every `by`-th row under one level."""
    rows = []
    for template in (*PLAIN, *VARIANTS):
        bad = hurt is not None and getattr(template, "level", None) == hurt
        for number, row in enumerate(ROWS):
            wrong = "AB".replace(row.answer, "")
            said = wrong if bad and number % by == 0 else row.answer
            rows.append(outcome_row(arm, template.id, row.id, row.answer, said, seed=-1))
    return rows


@pytest.fixture(scope="module")
def varied() -> Varied:
    table: pa.Table = outcome_table([*made("good", None, 1), *made("poor", CAPITALS, 2)])
    return Varied(outcomes=table, plain=PLAIN, variants=VARIANTS, examples={row.id: row for row in ROWS})


def test_the_level_that_hurts_is_found(varied: Varied) -> None:
    values = axis_values(varied, 0.95)
    assert list(values) == ["templates", "noise", "options"]
    poor, good = (values["noise"]["arms"][arm] for arm in ("poor", "good"))
    assert poor["levels"][CAPITALS]["mean"] == pytest.approx(0.5)
    assert poor["levels"][CAPITALS]["change"] == pytest.approx(-0.5)
    assert poor["worst"]["level"] == CAPITALS
    assert poor["worst"]["accuracy"] == 0.5
    assert poor["std"] == pytest.approx(np.std([1, 1, 1, 1, 0.5, 1], ddof=1), abs=0.03)
    assert good["std"] == 0
    assert good["levels"][CAPITALS]["change"] == 0
    assert values["options"]["arms"]["poor"]["std"] == 0
    assert values["noise"]["levels"][0] == UNCHANGED


def test_the_worst_case_shows_what_was_asked(varied: Varied) -> None:
    report = AxesReport.of(varied, 0.95)
    (worst,) = [case for case in report.worst if (case.axis, case.arm) == ("noise", "poor")]
    asked, right, said = worst.wrong[0]
    assert "GOAL" in asked
    assert "A: FIRST" in asked
    assert {right, said} == {"A", "B"}


def test_a_wrong_answer_is_shown_with_the_label_that_stood_there() -> None:
    moved = next(variant for variant in VARIANTS if variant.level == "options moved by 1")
    rows = made("arm", "options moved by 1", 1)
    table = outcome_table(rows)
    varied = Varied(outcomes=table, plain=PLAIN, variants=VARIANTS, examples={row.id: row for row in ROWS})
    (worst,) = [case for case in AxesReport.of(varied, 0.95).worst if case.axis == "options"]
    asked, right, said = worst.wrong[0]
    assert worst.level == moved.level
    assert "A: second\nB: first" in asked
    assert (right, said) == ("B", "A"), "row e00: its answer A stood behind B"


def test_a_wrong_answer_in_free_text_is_shown() -> None:
    """Also one that holds no answer."""
    rows = [{**row, "said": None, "named": None} for row in made("arm", CAPITALS, 1)]
    ids = [{name: row[name] for name in ("arm", "seed", "template_id", "example_id")} for row in rows]
    texts = pa.Table.from_pylist([{**each, "text": "I do not know."} for each in ids], schema=ANSWERS)
    examples = {row.id: row for row in ROWS}
    varied = Varied(outcomes=outcome_table(rows), plain=PLAIN, variants=VARIANTS, examples=examples, texts=texts)
    (worst,) = [case for case in AxesReport.of(varied, 0.95).worst if case.axis == "noise"]
    assert [said for _, _, said in worst.wrong] == ["I do not know."] * 2


def test_a_column_without_answers_is_left_out(varied: Varied) -> None:
    gone = next(variant for variant in VARIANTS if variant.level == CAPITALS)
    keep = pc.not_equal(varied.outcomes["template_id"], gone.id)
    part = replace(varied, outcomes=varied.outcomes.filter(keep))
    report = AxesReport.of(part, 0.95)
    poor = report.values["noise"]["arms"]["poor"]
    assert poor["std"] is None
    assert poor["levels"][CAPITALS]["mean"] == pytest.approx(0.5)
    assert json.loads(json.dumps(report.values, allow_nan=False)) == report.values


def test_sentences_and_tables(varied: Varied) -> None:
    report = AxesReport.of(varied, 0.95)
    assert any(sentence.startswith("The axis with the largest std of poor is noise: ") for sentence in report.findings)
    assert [table.name for table in report.tables] == ["axes", "axis-noise", "axis-options"]
    assert report.tables[1].rows[f"{CAPITALS}: poor"][1].text == "−50.0"
    assert report.tables[0].rows["noise: poor"][0].text == "19.9"
