"""What a measurement adds to the model card of a model that is there: a section for its README.md, and metadata in
Hugging Face's format (`model-index`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from paft_ray.report.findings import JUDGED_BY
from paft_ray.report.format import percent, span, within
from paft_ray.report.markdown import cell
from paft_ray.report.model_card import eval_results
from paft_ray.sanitize import visible
from paft_ray.storage.outputs import write_files
from paft_ray.storage.store import Store

FOLDER = "cards"


def write_measured_cards(
    target: Store, values: Mapping[str, Any], models: Mapping[str, str], *, task: str, has_labels: bool
) -> None:
    """Writes cards/MODEL.md for every model. `values`: content of results.json; `models`: name -> what it is."""
    cards = {
        f"{FOLDER}/{name}.md": measured_card(values, name, models[name], task=task, has_labels=has_labels).encode()
        for name in values["arms"]
    }
    target.delete(FOLDER)  # an earlier measurement may have been of other models
    write_files(target, cards)


def measured_card(values: Mapping[str, Any], name: str, what: str, *, task: str, has_labels: bool) -> str:
    """The Markdown text of one model, metadata first. A figure that is not known is left out."""
    arm = values["arms"][name]
    over = f"{arm['num_templates']} prompt templates, {arm['num_examples']} test examples each"
    metadata = ModelCardData(
        model_name=visible(name), eval_results=_results(values, name, over, task=task, has_labels=has_labels) or None
    )
    rows = [f"| {head} | {text} |" for head, text in _figures(values, arm)]
    rows += [
        f"| std over {cell(axis)}, without the noise of the rows | {_with_interval(found, 'std')} |"
        for axis, each in values.get("axes", {}).items()
        if (found := each["arms"][name])["std"] is not None
    ]
    parts = [
        "## Robustness to the prompt",
        f"{cell(what)}, on the task {cell(task)}: accuracy in % under {over} (paft_ray).",
        "\n".join(["| figure | value |", "|---|---|", *rows]),
    ]
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def _figures(values: Mapping[str, Any], arm: Mapping[str, Any]) -> list[tuple[str, str]]:
    measures = [
        (f"{measure}, of {JUDGED_BY[measure]}", _with_interval(found, "mean"))
        for measure, found in arm["measures"].items()
    ]
    spread = [
        (f"{head} of {values['headline']} over templates", percent(arm[name]))
        for name, head in (("std", "std"), ("decile", "lowest decile"), ("worst", "worst"))
        if arm[name] is not None
    ]
    return measures + spread


def _with_interval(found: Mapping[str, Any], figure: str) -> str:
    return f"{percent(found[figure])} ({span(*within(found['low'], found['high']), percent)})"


def _results(values: Mapping[str, Any], name: str, over: str, *, task: str, has_labels: bool) -> list[EvalResult]:
    """Accuracies are fractions."""
    arm, headline = values["arms"][name], values["headline"]
    named = [
        *(
            ("accuracy" if measure == headline else f"accuracy_{measure}", JUDGED_BY[measure], found["mean"])
            for measure, found in arm["measures"].items()
        ),
        ("accuracy_std", f"standard deviation over templates of {headline}", arm["std"]),
        ("accuracy_worst", f"worst template, {headline}", arm["worst"]),
    ]
    over_all = [(kind, f"{label}, over {over}", value) for kind, label, value in named]
    return eval_results(over_all, task=visible(task), dataset=visible(task), has_labels=has_labels)
