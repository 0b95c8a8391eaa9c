"""The card of a model that is there: metadata that Hugging Face reads, outside text escaped."""

from typing import Any

import pytest
from huggingface_hub import ModelCard

from paft_ray.report.measured_card import measured_card, write_measured_cards
from paft_ray.storage.store import Store

FIGURES = {"mean": 0.8123456, "low": 0.7, "high": 1.02}
ARM: dict[str, Any] = {
    "num_templates": 24,
    "num_examples": 40,
    "measures": {"behavior": FIGURES, "knowledge": {"mean": 0.9, "low": None, "high": None}},
    "std": 0.05,
    "decile": 0.7,
    "worst": None,
}
NOISE = {"arms": {"mine": {"std": 0.1, "low": 0.02, "high": 0.2}, "other": {"std": None, "low": None, "high": None}}}
VALUES: dict[str, Any] = {"headline": "behavior", "arms": {"mine": ARM, "other": ARM}, "axes": {"noise": NOISE}}


def test_metadata_hold_the_figures_that_are_known() -> None:
    text = measured_card(VALUES, "mine", "owner/<b>model", task="demo", has_labels=True)
    found = {each.metric_type: each.metric_value for each in ModelCard(text).data.eval_results}
    assert found == {"accuracy": 0.8123, "accuracy_knowledge": 0.9, "accuracy_std": 0.05}
    assert "owner/&lt;b&gt;model" in text
    assert "| behavior, of unconstrained answers | 81.2 (70.0 to 100.0) |" in text
    assert "| knowledge, of answers constrained to the labels | 90.0 (–) |" in text
    assert "| std over noise, without the noise of the rows | 10.0 (2.0 to 20.0) |" in text


def test_an_axis_without_a_figure_is_left_out() -> None:
    assert "std over noise" not in measured_card(VALUES, "other", "x", task="demo", has_labels=True)


def test_cards_of_an_earlier_measurement_go(tmp_path: Any) -> None:
    target = Store.at(str(tmp_path))
    write_measured_cards(target, VALUES, {"mine": "x", "other": "y"}, task="demo", has_labels=True)
    only = {**VALUES, "arms": {"mine": ARM}}
    write_measured_cards(target, only, {"mine": "x"}, task="demo", has_labels=True)
    assert [each.name for each in (tmp_path / "cards").iterdir()] == ["mine.md"]


@pytest.mark.parametrize(("has_labels", "kind"), [(True, "text-classification"), (False, "text-generation")])
def test_the_task_s_kind_is_said(has_labels: bool, kind: str) -> None:
    text = measured_card(VALUES, "mine", "x", task="demo", has_labels=has_labels)
    assert {each.task_type for each in ModelCard(text).data.eval_results} == {kind}
