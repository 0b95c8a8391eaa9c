"""The model card of a trained model: README.md in Hugging Face's format, its robustness figures in the metadata too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.compute as pc
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, UndefinedError
from markupsafe import Markup

from paft_ray.config import Config, EngineConfig, parse_config
from paft_ray.errors import UserError, one_line
from paft_ray.inference.vllm_args import serve_command
from paft_ray.metrics import RobustnessMetrics, figures
from paft_ray.prompts.chat import DATE
from paft_ray.report.answers import label_rates
from paft_ray.report.arm_order import ordered
from paft_ray.report.findings import JUDGED_BY
from paft_ray.report.format import percent
from paft_ray.report.inputs import Measured
from paft_ray.report.markdown import cell
from paft_ray.report.templates import template_environment
from paft_ray.report.trained_models import longest_request
from paft_ray.sanitize import visible
from paft_ray.storage.manifests import REPORT, TRAIN, TrainedModel, trained_models
from paft_ray.storage.outputs import CARD, manifest_path, write_files
from paft_ray.storage.store import Store

_KEPT = 4  # decimals of a figure in the metadata


@dataclass(frozen=True, kw_only=True)
class Origins:
    """Where a model's parts come from. Licenses are as their owners state them; None: none was found."""

    base_id: str | None
    """Hub id of the base model; None: a folder of the user's own."""
    base_license: str | None
    data_license: str | None
    datasets: tuple[str, ...]
    """Hub ids of the data sets."""
    generators: Mapping[str, str | None]
    """Model that wrote prompt templates -> its license."""
    test_dataset: str | None = None
    """Hub id of the data set that the test rows are of; None: a file."""
    test_split: str | None = None
    """Its split; None where they were kept back from the training rows."""


def write_cards(run: Store, config: Config, origins: Origins, measured: Measured) -> dict[str, str]:
    """Path -> SHA-256 of what was written: the card of every trained model as README.md next to its weights, and that
    of arm `paft` (first seed) as report/model_card.md. `measured`: the run's own evaluation."""
    models = trained_models(run)
    engine, own, cards = evaluated_engine(config, measured), of_weights(measured, models), dict[str, bytes]()
    for model in models:
        card = render_card(model, config, origins, own, engine=engine, adapter=model.is_adapter)
        cards[f"{model.path}/{CARD}"] = card.encode()
    if shown := next((model for model in models if model.arm == "paft"), None):
        cards[f"{REPORT}/model_card.md"] = cards[f"{shown.path}/{CARD}"]
    return write_files(run, cards)


def of_weights(measured: Measured | None, models: Sequence[TrainedModel]) -> Measured | None:
    """An evaluation of a run's trained models; None where it is one of other weights than they have now."""
    evaluated = measured.manifest["key"].get("models") if measured else None
    return measured if evaluated == {str(model.key): model.sha256 for model in models} else None


def evaluated_engine(config: Config, measured: Measured | None) -> EngineConfig:
    """The engine's settings with those that decide answers as they were when the run was evaluated. Raises `UserError`
    for ones that are not allowed."""
    key = measured.manifest.get("key", {}) if measured else {}
    said = key.get("engine", {}) if isinstance(key, dict) else key
    whole = config.model_dump(mode="json")
    engine = {**whole["engine"], **said} if isinstance(said, dict) else said
    return parse_config({**whole, "engine": engine}, f"of run {config.name}, evaluate/manifest.json").engine


def render_card(
    model: TrainedModel,
    config: Config,
    origins: Origins,
    measured: Measured | None,
    *,
    engine: EngineConfig,
    adapter: bool,
) -> str:
    """The text of README.md, metadata first.

    `measured`: the run's evaluation, None where there is none. `engine`: serves the model. `adapter`: the folder holds
    a PEFT adapter, else full weights. Raises `UserError` where the settings of the training are not complete.
    """
    own = _own(measured, config, model) if measured else None
    serve = serve_command(
        "DIR" if adapter else ".", name=model.name, engine=engine, max_model_len=longest_request(config, model)
    )
    values = {
        "model": model,
        "origins": origins,
        "adapter": adapter,
        "serve": serve,
        "chat_variables": json.dumps({"date_string": DATE, **model.settings["model"].get("chat_template_kwargs", {})}),
        "base": origins.base_id
        or f"{str(model.settings['model']['id']).rstrip('/').rpartition('/')[2]} (a folder of the user's own)",
        "own": own,
        "arms": _arms(measured, config) if measured else {},
        "budget": measured.manifest.get("budget", 1) if measured else 1,
        "num_seeds": max((len(arm.seeds) for arm in measured.arms.values()), default=1) if measured else 1,
        "labels": list(dict.fromkeys(model.settings["task"]["labels"].values())),
    }
    try:
        text = _environment().get_template("card.md.j2").render(values)
    except UndefinedError as error:
        raise UserError(
            f"run {model.run}: {manifest_path(TRAIN)} does not say what a card states ({one_line(error)[:200]}); "
            "delete it and run stage train again"
        ) from None
    metadata = _metadata(model, origins, own, adapter=adapter)
    card = f"---\n{metadata.to_yaml()}\n---\n\n{text}"
    assert ModelCard(card).data.to_dict() == metadata.to_dict()
    return card


def _environment() -> Environment:
    """Of the card's template; what is inserted is escaped for Markdown."""
    return template_environment(
        _escaped, percent=percent, code=_code, quoted=lambda name: _code(json.dumps(name, ensure_ascii=False))
    )


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One arm, or one model, as the card shows it."""

    figures: RobustnessMetrics
    """By the headline measure."""
    means: Mapping[str, float]
    """Measure -> mean accuracy."""
    named_rate: float | None
    """Fraction of unconstrained answers that name a label; None for a task without labels."""
    label_ended_rate: float | None
    """Fraction of them that ended at their first token, a label."""


def _own(measured: Measured, config: Config, model: TrainedModel) -> _Row | None:
    """That of this arm and seed alone, None where it was not evaluated."""
    rows = measured.outcomes.filter((pc.field("arm") == model.arm) & (pc.field("seed") == model.seed))
    return _arms(replace(measured, outcomes=rows), config)[model.arm] if rows.num_rows else None


def _arms(measured: Measured, config: Config) -> dict[str, _Row]:
    rates, budget = label_rates(measured), measured.manifest.get("budget", 1)
    return {
        name: _Row(
            figures=_of_cells(figures(arm, threshold=config.report.threshold), budget),
            means={measure: float(arms[name].by_template.mean()) for measure, arms in measured.by_measure.items()},
            named_rate=rates[name]["named_rate"],
            label_ended_rate=rates[name]["label_ended_rate"],
        )
        for name, arm in ordered(measured.arms).items()
    }


def _of_cells(found: RobustnessMetrics, budget: float) -> RobustnessMetrics:
    """The figures without those of spread, where only a part of the cells was asked."""
    if budget == 1:
        return found
    reason = f"only {100 * budget:.3g} % of the (template, example) cells were answered"
    return replace(found, std=None, decile=None, worst=None, insufficient_data_reason=reason)


def _metadata(model: TrainedModel, origins: Origins, own: _Row | None, *, adapter: bool) -> ModelCardData:
    return ModelCardData(
        base_model=visible(origins.base_id) if origins.base_id else None,
        base_model_relation=("adapter" if adapter else "finetune") if origins.base_id else None,
        library_name="peft" if adapter else "transformers",
        license=visible(origins.base_license or "unknown").lower(),
        pipeline_tag="text-generation",
        tags=["paft", "lora"] if model.settings["train"]["lora"] else ["paft"],
        datasets=[visible(name) for name in origins.datasets] or None,
        model_name=visible(model.name),
        eval_results=_eval_results(model, origins, own) if own else None,
    )


def _eval_results(model: TrainedModel, origins: Origins, own: _Row) -> list[EvalResult]:
    """Accuracies are fractions. A figure that is not given is left out."""
    task, found = one_line(model.settings["task"]["name"]), own.figures
    headline, *others = own.means
    over = f"over {found.num_templates} held-out prompt templates, {found.num_examples} test examples each"
    named = [
        ("accuracy", f"mean accuracy of {JUDGED_BY[headline]} {over}", found.mean),
        ("accuracy_std", f"standard deviation of that accuracy {over}", found.std),
        ("accuracy_worst", f"that accuracy on the worst template {over}", found.worst),
        *((f"accuracy_{name}", f"mean accuracy of {JUDGED_BY[name]} {over}", own.means[name]) for name in others),
        ("num_templates", "number of held-out prompt templates", found.num_templates),
    ]
    return eval_results(
        named,
        task=task,
        dataset=visible(origins.test_dataset) if origins.test_dataset else task,
        split=visible(origins.test_split) if origins.test_split else None,
        has_labels=bool(model.settings["task"].get("labels")),
    )


def eval_results(
    named: Iterable[tuple[str, str, float | None]],
    *,
    task: str,
    dataset: str,
    has_labels: bool,
    split: str | None = None,
) -> list[EvalResult]:
    """Figures (type, name, value) as a card's metadata hold them; one without a value is left out. `dataset` and
    `split`: whose rows were asked."""
    return [
        EvalResult(
            task_type="text-classification" if has_labels else "text-generation",
            dataset_type=dataset,
            dataset_name=task,
            dataset_split=split,
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, _KEPT),
        )
        for kind, name, value in named
        if value is not None
    ]


def _escaped(value: Any) -> Markup:
    """Everything that the template writes, as Markdown text; code as it is."""
    return value if isinstance(value, Markup) else Markup(cell(str(value)))  # noqa: S704 (escaped by `cell`)


def _code(text: Any) -> Markup:
    """Text for a code block: one line, so that it cannot end the block."""
    return Markup(visible(" ".join(str(text).splitlines())))  # noqa: S704 (a code block shows text as it is)
