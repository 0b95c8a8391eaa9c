"""The plots of the page, each with its text alternative (what the eye would take from it) and its caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paft_ray.report import plots
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


def arms(rows: Sequence[TemplateRow], values: Mapping[str, Values], *, confidence: float) -> Picture:
    """Mean of each arm with its interval, and its templates. `values`: the part `arms` of results.json."""
    parts = []
    for arm in sorted(values, key=lambda arm: -values[arm]["mean"]):
        low, high = values[arm].get("low"), values[arm].get("high")
        interval = "" if low is None or high is None else f" (interval {100 * low:.1f} to {100 * high:.1f})"
        parts.append(f"{arm} {100 * values[arm]['mean']:.1f} %{interval}")
    bars = any(arm.get("low") is not None for arm in values.values())
    return Picture(
        uri=plots.data_uri(plots.arms_plot(rows, values)),
        text=f"Mean accuracy of each arm, highest first: {'; '.join(parts)}. Small marks are the {len(rows)} "
        "templates.",
        caption=f"Large marks are means{f' with their {100 * confidence:g} % intervals' if bars else ''}; "
        "small marks under them are the templates, sorted from lowest to highest accuracy.",
    )


def templates(
    rows: Sequence[TemplateRow], names: Sequence[str], values: Mapping[str, Values], *, held_out: bool
) -> Picture:
    """Every template's accuracy per arm."""
    parts = []
    for arm in names:
        table = values[arm]
        worst = "" if table["worst"] is None else f", from {100 * table['worst']:.1f} to {100 * table['best']:.1f}"
        parts.append(f"{arm} mean {100 * table['mean']:.1f} %{worst}")
    return Picture(
        uri=plots.data_uri(plots.template_plot(rows, names)),
        text=f"Accuracy of each arm on each of {len(rows)} {'held-out' if held_out else 'given'} templates. "
        f"{'; '.join(parts)}.",
        caption=f"One row per template, ordered by the accuracy of {'sft' if 'sft' in names else names[0]}; dashed "
        "lines are means. Numbers are those of the matrix below.",
    )


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
