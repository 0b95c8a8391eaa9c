"""Plots as SVG: every template's accuracy per arm, training loss, sweep curve. No pyplot, so no global state and no display."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from paft_ray.report.tables import TemplateRow

_INK, _GRID = "#22303a", "#dfe4e8"
# Okabe-Ito colours, and a marker of its own for each arm, so that the plot reads in grey and for colour-blind eyes.
STYLES: dict[str, tuple[str, str]] = {"base": ("#8a949c", "s"), "sft": ("#d55e00", "^"), "top_accuracy": ("#b07aa1", "D"), "paft": ("#0072b2", "o")}
_OTHER = ("#009e73", "v")
_RC: dict[str, Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "svg.hashsalt": "paft_ray",
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def style(arm: str) -> tuple[str, str]:
    """(colour, marker) of an arm."""
    return STYLES.get(arm, _OTHER)


def template_plot(rows: Sequence[TemplateRow], arms: Sequence[str]) -> bytes:
    """SVG: one line per template (numbered as in the table), one mark per arm, a dashed line at each arm's mean."""
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(4.8, 1.3 + 0.22 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        places = [row.number for row in rows]
        for row in rows:
            spread = [100 * row.accuracy[arm] for arm in arms]
            axes.plot([min(spread), max(spread)], [row.number] * 2, color=_GRID, linewidth=1.5, zorder=1)
        for arm in arms:
            colour, marker = style(arm)
            values = [100 * row.accuracy[arm] for row in rows]
            mean = sum(values) / len(values)
            axes.axvline(mean, color=colour, linestyle="--", linewidth=1, zorder=0)
            axes.scatter(values, places, color=colour, marker=marker, s=30, label=f"{arm} (mean {mean:.1f})", zorder=3, alpha=0.9, linewidths=0)
        axes.set_yticks(places, [str(place) for place in places])
        axes.set_ylim(len(rows) + 0.7, 0.3)
        axes.set_xlabel("accuracy, %")
        axes.set_ylabel("template")
        axes.tick_params(length=0)
        figure.legend(loc="outside upper center", ncols=2 if len(arms) > 2 else len(arms), frameon=False)
        return _svg(figure)


def loss_plot(losses: Mapping[str, Sequence[tuple[float, float]]]) -> bytes:
    """SVG: training loss over optimizer steps, one line per arm and seed (pale: single steps; strong: running average)."""
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(4.8, 2.8), layout="constrained")
        axes = figure.add_subplot()
        labelled: set[str] = set()
        for name, points in losses.items():
            arm = name.rsplit("-s", 1)[0]
            steps, values = zip(*points, strict=True)
            colour = style(arm)[0]
            axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.35)
            axes.plot(steps, _smoothed(values), color=colour, linewidth=1.6, label=None if arm in labelled else arm)
            labelled.add(arm)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss, nats per answer token")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color=_GRID, linewidth=0.6)
        axes.tick_params(length=0)
        figure.legend(loc="outside upper center", ncols=max(len(labelled), 1), frameon=False)
        return _svg(figure)


def sweep_plot(curve: Sequence[Mapping[str, Any]], sizes: Sequence[Mapping[str, Any]], *, form: str = "svg") -> bytes:
    """SVG or PNG: mean held-out accuracy over the number of training templates, with its interval and every trial as a dot."""
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(4.8, 3.0), layout="constrained", dpi=160)
        axes = figure.add_subplot()
        colour = style("paft")[0]
        banded = [point for point in curve if point["low"] is not None and point["high"] is not None]
        if banded:
            low, high = ([100 * point[key] for point in banded] for key in ("low", "high"))
            axes.fill_between([point["size"] for point in banded], low, high, color=colour, alpha=0.15, linewidth=0, label="interval of the mean")
        axes.plot([point["size"] for point in curve], [100 * point["mean"] for point in curve], color=colour, marker="o", label="mean")
        axes.scatter([trial["size"] for trial in sizes], [100 * trial["mean"] for trial in sizes], color=_INK, s=12, zorder=3, label="one subset")
        axes.set_xscale("log", base=2)
        axes.set_xticks([point["size"] for point in curve], [str(point["size"]) for point in curve])
        axes.minorticks_off()
        axes.set_xlabel("training templates")
        axes.set_ylabel("held-out accuracy, %")
        axes.grid(axis="y", color=_GRID, linewidth=0.6)
        axes.tick_params(length=0)
        axes.legend(frameon=False, loc="best")
        return _svg(figure) if form == "svg" else _saved(figure, "png")


def data_uri(svg: bytes) -> str:
    """The picture as a `data:` URI, so that a page needs no second file and ids of two pictures cannot clash."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _smoothed(values: Sequence[float], weight: float = 0.8) -> list[float]:
    """Exponential average with bias correction."""
    total, scale, smoothed = 0.0, 0.0, []
    for value in values:
        total, scale = weight * total + (1 - weight) * value, weight * scale + (1 - weight)
        smoothed.append(total / scale)
    return smoothed


def _svg(figure: Figure) -> bytes:
    return _saved(figure, "svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})


def _saved(figure: Figure, form: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format=form, **options)
    return sink.getvalue()
