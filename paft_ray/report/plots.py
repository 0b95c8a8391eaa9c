"""Plots as SVG: arms with their intervals, every template's accuracy per arm, training curves, sweep curve. No pyplot,
so no global state and no display."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from paft_ray.report.format import within
from paft_ray.report.inputs import Curves
from paft_ray.report.tables import TemplateRow
from paft_ray.sanitize import visible

_INK, _GRID = "#22303a", "#dfe4e8"
# Okabe-Ito colors (darkened where they are under 3:1 on white), and a marker of its own for each arm, so that plots
# read in grey and for color-blind eyes.
_STYLES = {
    "base": ("#7a858e", "s"),
    "sft": ("#d55e00", "^"),
    "top_accuracy": ("#b8608f", "D"),
    "paft": ("#0072b2", "o"),
}
_OTHERS = (
    *(("#008a63", "v"), ("#22303a", "P"), ("#a87000", "X"), ("#2f87b8", "<")),
    *(("#6a3d9a", "*"), ("#a14a1a", "p"), ("#9c0f3f", "h"), ("#4d6600", "d")),
)
_WIDTH = 4.4  # inches, 422 px: close to a phone's width, so that letters are neither tiny there nor huge on a desk
_MANY = 24  # templates from which rows are drawn closer
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


def styles(arms: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Arm -> (color, marker); the four arms of the method always have the same."""
    others = [arm for arm in arms if arm not in _STYLES]
    return {arm: _STYLES[arm] if arm in _STYLES else _OTHERS[others.index(arm) % len(_OTHERS)] for arm in arms}


def arms_plot(rows: Sequence[TemplateRow], arms: Mapping[str, Mapping[str, Any]], *, label: str) -> bytes:
    """SVG: one row per arm, highest mean on top: the mean with its interval, and under it the templates as small marks,
    sorted.

    `arms`: the part `arms` of results.json; `label`: of the accuracies.
    """
    look = styles(list(arms))
    order = sorted(arms, key=lambda arm: -arms[arm]["mean"])
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(_WIDTH, 0.75 + 0.62 * len(order)), layout="constrained")
        axes = figure.add_subplot()
        for place, arm in enumerate(order):
            color, marker = look[arm]
            values = np.sort([100 * row.accuracy[arm] for row in rows])
            axes.scatter(
                values,
                place + np.linspace(0.34, -0.08, len(values)),
                color=color,
                marker=marker,
                s=9,
                alpha=0.75,
                linewidths=0,
            )
            low, high = within(arms[arm].get("low"), arms[arm].get("high"))
            if low is not None and high is not None:
                axes.errorbar(
                    [(low + high) * 50],
                    [place - 0.26],
                    xerr=[(high - low) * 50],
                    color=color,
                    linewidth=2.2,
                    capsize=3,
                    capthick=1.5,
                )
            axes.scatter(
                [100 * arms[arm]["mean"]],
                [place - 0.26],
                color=color,
                marker=marker,
                s=46,
                edgecolors="white",
                linewidths=0.8,
                zorder=4,
            )
        axes.set_yticks(range(len(order)), [_plain(arm) for arm in order])
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.set_xlabel(label)
        _finish(axes, "x")
        return _svg(figure)


def axes_plot(values: Mapping[str, Any], *, label: str) -> bytes:
    """SVG: for each axis of a suite one mark per arm, the std over its levels with its interval.

    `values`: the part `axes` of results.json; `label`: of the stds.
    """
    arms = list(next(iter(values.values()))["arms"])
    look = styles(arms)
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(_WIDTH, 1.1 + len(values) * (0.2 + 0.14 * len(arms))), layout="constrained")
        axes = figure.add_subplot()
        for place, found in enumerate(values.values()):
            offsets = (np.arange(len(arms)) - (len(arms) - 1) / 2) * 0.7 / max(len(arms), 1)
            for offset, arm in zip(offsets, arms, strict=True):
                row, (color, marker) = found["arms"][arm], look[arm]
                if row["std"] is None:
                    continue
                if row["low"] is not None:
                    axes.plot([100 * row["low"], 100 * row["high"]], [place + offset] * 2, color=color, linewidth=1.6)
                name = _plain(arm) if place == 0 else None
                axes.scatter(
                    [100 * row["std"]], [place + offset], color=color, marker=marker, s=26, label=name, zorder=3
                )
        axes.set_yticks(range(len(values)), [_plain(axis) for axis in values])
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        _finish(axes, "x")
        return _svg(figure)


def template_plot(rows: Sequence[TemplateRow], arms: Sequence[str], *, label: str) -> bytes:
    """SVG: one line per template (numbered as in the table), one mark per arm, a dashed line at each arm's mean.

    `label`: of the accuracies.
    """
    look = styles(arms)
    height, size, small = (0.22, 30, 9.0) if len(rows) <= _MANY else (0.15, 18, 7.5)
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(_WIDTH, 1.3 + height * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        places = [row.number for row in rows]
        for row in rows:
            spread = [100 * row.accuracy[arm] for arm in arms]
            axes.plot([min(spread), max(spread)], [row.number] * 2, color=_GRID, linewidth=1.5, zorder=1)
        for arm in arms:
            color, marker = look[arm]
            values = [100 * row.accuracy[arm] for row in rows]
            mean = sum(values) / len(values)
            axes.axvline(mean, color=color, linestyle="--", linewidth=1, zorder=0)
            axes.scatter(
                values,
                places,
                color=color,
                marker=marker,
                s=size,
                label=f"{_plain(arm)} (mean {mean:.1f})",
                zorder=3,
                alpha=0.9,
                linewidths=0,
            )
        axes.set_yticks(places, [str(place) for place in places], fontsize=small)
        axes.set_ylim(len(rows) + 0.7, 0.3)
        axes.set_xlim(-4, 104)  # the same in every plot, so that two of them compare
        axes.set_xlabel(label)
        axes.set_ylabel("template")
        axes.tick_params(length=0)
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        return _svg(figure)


def curves_plot(curves: Curves, *, label: str, noisy: bool = False, scale: float = 1.0) -> bytes:
    """SVG: values over optimizer steps, one line per arm and seed.

    `noisy`: log scale, single steps pale, a running average strong; `scale`: factor of the values.
    """
    arms = list(dict.fromkeys(model.arm for model in curves))
    look = styles(arms)
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(_WIDTH, 2.7), layout="constrained")
        axes = figure.add_subplot()
        labeled: set[str] = set()
        for model, points in curves.items():
            steps, values = [step for step, _ in points], [scale * value for _, value in points]
            (color, marker), shown = look[model.arm], None if model.arm in labeled else _plain(model.arm)
            if noisy:
                axes.plot(steps, values, color=color, linewidth=0.6, alpha=0.35)
            # Few marks, so that arms are told apart without color too.
            axes.plot(
                steps,
                _smoothed(values) if noisy else values,
                color=color,
                linewidth=1.6,
                marker=marker,
                markersize=4,
                markevery=0.2,
                label=shown,
            )
            labeled.add(model.arm)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if noisy:  # training loss falls over orders of magnitude
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
        _finish(axes, "y")
        figure.legend(loc="outside upper center", ncols=max(len(labeled), 1), frameon=False)
        return _svg(figure)


def sweep_plot(
    curve: Sequence[Mapping[str, Any]],
    sizes: Sequence[Mapping[str, Any]],
    *,
    form: str = "svg",
    fit: Mapping[str, Any] | None = None,
    recommended: int | None = None,
) -> bytes:
    """SVG or PNG: mean and worst held-out accuracy over the number of training templates, std under it where it is
    known.

    `curve`, `sizes`, `fit`, `recommended` (marked by a line): as in sweep.json; every trial of `sizes` is a dot.
    """
    spread = [point for point in curve if point.get("std") is not None]
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(_WIDTH, 4.3 if spread else 3.0), layout="constrained", dpi=160)
        panels = figure.subplots(
            2 if spread else 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": [3, 1] if spread else [1]}
        )[:, 0]
        _accuracies(panels[0], curve, sizes, fit)
        if spread:
            panels[1].plot(
                [point["size"] for point in spread],
                [100 * point["std"] for point in spread],
                color=_STYLES["paft"][0],
                marker="o",
                markersize=4,
            )
            panels[1].set_ylim(bottom=0)
            panels[1].set_ylabel("std, percentage points")
        for axes in panels:
            if recommended is not None:
                axes.axvline(recommended, color=_INK, linestyle=":", linewidth=1, zorder=0, label="recommended")
            axes.set_xscale("log", base=2)
            axes.set_xticks([point["size"] for point in curve], [str(point["size"]) for point in curve])
            axes.minorticks_off()
            _finish(axes, "y")
        panels[-1].set_xlabel("training templates")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
        return _svg(figure) if form == "svg" else _saved(figure, form)


def _accuracies(
    axes: Any, curve: Sequence[Mapping[str, Any]], sizes: Sequence[Mapping[str, Any]], fit: Mapping[str, Any] | None
) -> None:
    color, worst_color = _STYLES["paft"][0], _STYLES["sft"][0]
    banded = [point for point in curve if point["low"] is not None and point["high"] is not None]
    if banded:
        low, high = ([100 * point[key] for point in banded] for key in ("low", "high"))
        axes.fill_between(
            [point["size"] for point in banded],
            low,
            high,
            color=color,
            alpha=0.15,
            linewidth=0,
            label="interval of the mean",
        )
    axes.plot(
        [point["size"] for point in curve],
        [100 * point["mean"] for point in curve],
        color=color,
        marker="o",
        label="mean",
    )
    if worst := [point for point in curve if point.get("worst") is not None]:
        places, values = [point["size"] for point in worst], [100 * point["worst"] for point in worst]
        axes.plot(places, values, color=worst_color, marker="^", linestyle="--", linewidth=1.2, label="worst template")
    axes.scatter(
        [trial["size"] for trial in sizes],
        [100 * trial["mean"] for trial in sizes],
        color=_INK,
        s=10,
        zorder=3,
        label="mean of one subset",
    )
    if fit and fit.get("asymptote") is not None:
        grid = np.geomspace(curve[0]["size"], curve[-1]["size"], 60)
        axes.plot(
            grid,
            100 * (fit["asymptote"] - fit["gain"] * grid ** -fit["exponent"]),
            color="#008a63",
            linestyle="-.",
            linewidth=1.2,
            label="fitted curve",
        )
    axes.set_ylabel("held-out accuracy, %")


def data_uri(svg: bytes) -> str:
    """The picture as a `data:` URI, so that a page needs no second file and ids of two pictures cannot clash."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _plain(name: str) -> str:
    """A name as matplotlib shows it: neither as a formula nor with hidden characters."""
    return visible(name).replace("$", r"\$")


def _finish(axes: Any, grid: str) -> None:
    axes.grid(axis=grid, color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)


def _smoothed(values: Sequence[float], weight: float = 0.8) -> list[float]:
    """Exponential average with bias correction."""
    total, scale, smoothed = 0.0, 0.0, []
    for value in values:
        total, scale = weight * total + (1 - weight) * value, weight * scale + (1 - weight)
        smoothed.append(total / scale)
    return smoothed


def _svg(figure: Figure) -> bytes:
    """Names of arms stand in comments of the file, where a control character would end it for every reader."""
    found = _saved(figure, "svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    return visible(found.decode()).encode()


def _saved(figure: Figure, form: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format=form, **options)
    return sink.getvalue()
