"""The plots of the page, each with its text alternative (what the eye would take from it) and its caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from paft_ray.report import plots
from paft_ray.report.findings import JUDGED_BY
from paft_ray.report.format import percent, span, within
from paft_ray.report.inputs import History
from paft_ray.report.metric_tables import Values
from paft_ray.report.tables import TemplateRow


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot as the page shows it."""

    uri: str
    """`data:` URI."""
    text: str
    """Text alternative."""
    caption: str


def arms(rows: Sequence[TemplateRow], values: Values) -> Picture:
    """Mean of each arm by the headline measure with its interval, and its templates. `values`: the content of
    results.json."""
    parts, by_arm = [], values["arms"]
    for arm in sorted(by_arm, key=lambda arm: -by_arm[arm]["mean"]):
        interval = span(*within(by_arm[arm].get("low"), by_arm[arm].get("high")), percent)
        interval = "" if interval == "–" else f" (interval {interval})"
        parts.append(f"{arm} {100 * by_arm[arm]['mean']:.1f} %{interval}")
    bars = any(arm.get("low") is not None for arm in by_arm.values())
    headline, level = values["headline"], f"{100 * values['confidence']:g} %"
    return Picture(
        uri=plots.data_uri(plots.arms_plot(rows, by_arm, label=_label(headline))),
        text=f"Mean accuracy of each arm ({headline}), highest first: {'; '.join(parts)}. Small marks are the "
        f"{len(rows)} templates.",
        caption=f"{headline.capitalize()}: accuracy of {JUDGED_BY[headline]}. Large marks are means"
        f"{f' with their {level} intervals' if bars else ''}; small marks under them are the templates, sorted from "
        "lowest to highest accuracy.",
    )


def axes(values: Values, headline: str, confidence: float) -> Picture:
    """How far each axis of a suite moves each arm. `values`: the part `axes` of results.json."""
    parts = []
    for axis, found in values.items():
        stds = ", ".join(f"{arm} {percent(row['std'])}" for arm, row in found["arms"].items())
        parts.append(f"{axis}: {stds}")
    return Picture(
        uri=plots.data_uri(plots.axes_plot(values, label=f"std of {headline} over levels, percentage points")),
        text=f"Std of {headline} over the levels of each axis, in percentage points. {'; '.join(parts)}.",
        caption=f"How far each axis moves the accuracy of a template: std over its levels with its "
        f"{100 * confidence:g} % interval, without the noise of the test rows.",
    )


def templates(rows: Sequence[TemplateRow], names: Sequence[str], values: Values, *, kind: str) -> list[Picture]:
    """Every template's accuracy per arm by the headline measure, and next to it by knowledge where that is another.
    `values`: the content of results.json; `kind`: held-out or given."""
    headline = values["headline"]
    first = _templates(rows, names, headline, kind)
    first = replace(
        first,
        caption=f"{headline.capitalize()}: accuracy of {JUDGED_BY[headline]}. One row per template, ordered by "
        f"{'sft' if 'sft' in names else names[0]}; dashed lines are means. Numbers are those of the table below.",
    )
    known = [replace(row, accuracy=row.knowledge) for row in rows if row.knowledge is not None]
    if not known:
        return [first]
    second = _templates(known, [name for name in names if name in known[0].accuracy], "knowledge", kind)
    return [
        first,
        replace(
            second,
            caption=f"Knowledge: accuracy of {JUDGED_BY['knowledge']}. The same templates in the same order: where a "
            "mark is far to the right of that on the other plot, the arm prefers right labels that it does not say "
            "(one label for every row is right on some of them, too).",
        ),
    ]


def _templates(rows: Sequence[TemplateRow], names: Sequence[str], measure: str, kind: str) -> Picture:
    parts = []
    for arm in names:
        found = [100 * row.accuracy[arm] for row in rows]
        parts.append(f"{arm} mean {sum(found) / len(found):.1f} %, from {min(found):.1f} to {max(found):.1f}")
    return Picture(
        uri=plots.data_uri(plots.template_plot(rows, names, label=_label(measure))),
        text=f"Accuracy of each arm ({measure}) on each of {len(rows)} {kind} templates. {'; '.join(parts)}.",
        caption="",
    )


def _label(measure: str) -> str:
    return f"{measure}: accuracy, %"


def training(history: History) -> list[Picture]:
    """Training loss, and loss and accuracy on validation rows where training measured them."""
    found = [
        (
            history.losses,
            "loss, nats per answer token",
            "Training loss",
            1,
            True,
            "logarithmic scale; pale lines are single steps, strong lines a running average",
        ),
        (
            history.validation_losses,
            "loss, nats per answer token",
            "Validation loss",
            1,
            False,
            "validation rows under training templates",
        ),
        (
            history.validation_accuracies,
            "accuracy, %",
            "Validation accuracy in percent",
            100,
            False,
            "validation rows under training templates",
        ),
    ]
    pictures = []
    for curves, label, name, scale, noisy, said in found:
        if curves:
            ends = [
                f"{arm} ends at {scale * points[-1][1]:.{1 if scale == 100 else 3}f} after {points[-1][0]:.0f} steps"
                for arm, points in curves.items()
            ]
            uri = plots.data_uri(plots.curves_plot(curves, label=label, noisy=noisy, scale=scale))
            caption = f"{name}: {said}. Arms are trained on different templates: their curves do not rank them."
            pictures.append(Picture(uri=uri, text=f"{name} over optimizer steps. {'; '.join(ends)}.", caption=caption))
    return pictures


def sweep(values: Values, trials: Sequence[Values]) -> Picture:
    """Accuracy over the number of training templates. `values`: the content of sweep.json; `trials`: its rows on the
    curve."""
    curve, size = values["curve"], values.get("recommended_size")
    means = "; ".join(f"{point['size']}: {100 * point['mean']:.1f} %" for point in curve)
    svg = plots.sweep_plot(curve, trials, fit=values.get("fit"), recommended=size)
    return Picture(
        uri=plots.data_uri(svg),
        text="Mean held-out accuracy by number of training templates. "
        f"{means}.{'' if size is None else f' Recommended: {size}.'}",
        caption="Held-out accuracy by number of training templates (logarithmic scale): mean with its interval, worst "
        "template, every subset as a dot; below, where given, the standard deviation over templates.",
    )
