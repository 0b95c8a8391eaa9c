"""Which template stage score names as the best, what decides between equal ones, and how sure it is."""

import json
from typing import Any

import pyarrow as pa
import pytest

from paft_ray.stages.score import best_first, best_of, score_table
from paft_ray.storage.manifests import ScoreManifest


def outcomes(right: dict[str, list[float]], logprob: dict[str, float] | None = None) -> pa.Table:
    """Template -> its scores on the rows in order, and its log-probabilities of the right answer."""
    rows = [
        {
            "template_id": template,
            "example_id": f"e{number}",
            "behavior": score,
            "correct": score == 1,
            "parsed": True,
            "logprob": (logprob or {}).get(template),
        }
        for template, scores in right.items()
        for number, score in enumerate(scores)
    ]
    schema = pa.schema(
        [
            ("template_id", pa.string()),
            ("example_id", pa.string()),
            ("behavior", pa.float32()),
            ("correct", pa.bool_()),
            ("parsed", pa.bool_()),
            ("logprob", pa.float64()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def best(table: pa.Table) -> dict[str, Any]:
    return best_of(table, score_table(table))


def test_a_template_that_is_clearly_better_is_surely_the_best() -> None:
    found = best(outcomes({"a": [0.0] * 40, "b": [1.0] * 40, "c": [1.0, 0.0] * 20}))
    assert found == {
        "best": "b",
        "best_accuracy": 1.0,
        "best_probability": 1.0,
        "num_tied": 0,
        "num_templates": 3,
        "num_examples": 40,
    }
    assert ScoreManifest.model_validate({**json.loads(json.dumps(found)), "outputs": {}, "key": {}, "time_s": 1.0})


def test_of_equal_ones_the_log_probability_decides_then_the_id() -> None:
    scores = {"c": [1.0, 0.0] * 20, "b": [1.0, 0.0] * 20, "a": [0.0] * 40}
    found = best(outcomes(scores))
    assert (found["best"], found["num_tied"], found["best_probability"]) == ("b", 1, 1.0)
    found = best(outcomes(scores, {"a": -0.1, "b": -2.0, "c": -1.0}))
    assert (found["best"], found["num_tied"], found["best_probability"]) == ("c", 1, 1.0)


def test_two_that_few_rows_cannot_tell_apart_are_no_sure_choice() -> None:
    found = best(outcomes({"a": [1.0, 0.0] * 20, "b": [0.0, 1.0] * 19 + [0.0, 0.0]}))
    assert found["best"] == "a"
    assert 0.4 < found["best_probability"] < 0.8


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_the_outcomes_is_no_input(order: int) -> None:
    table = outcomes({"a": [1.0, 0.0, 1.0, 1.0], "b": [1.0, 1.0, 0.0, 1.0]})
    assert best(pa.Table.from_pylist(table.to_pylist()[::order], schema=table.schema)) == best(table)
    assert [row["template_id"] for row in best_first(score_table(table).to_pylist())] == ["a", "b"]
