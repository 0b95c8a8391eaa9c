"""`python -m benchmarks.plot`: docs/speed.png from results.json, one bar per comparison."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.results import RESULTS

TARGET = Path("docs/speed.png")


def main() -> None:
    rows = [row for row in json.loads(RESULTS.read_text())["results"] if row["unit"] != "GiB"][::-1]
    figure = Figure(figsize=(8.2, 0.55 * len(rows) + 0.9), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(rows))
    ratios = [row["ratio"] for row in rows]
    spread = [[row["ratio"] - row["low"] for row in rows], [row["high"] - row["ratio"] for row in rows]]
    axes.barh(places, ratios, color=["#2f6f9f" if ratio >= 1 else "#b8b8b8" for ratio in ratios], height=0.6)
    axes.errorbar(ratios, places, xerr=spread, fmt="none", ecolor="#222222", capsize=3, linewidth=1)
    for place, row in zip(places, rows, strict=True):
        axes.annotate(
            f"{row['ratio']:.2f}", (row["high"], place), textcoords="offset points", xytext=(5, -3), fontsize=9
        )
    axes.set_yticks(places, [f"{row['name']}\nbeside {row['peer_name']}" for row in rows], fontsize=8)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.axvline(1, color="#222222", linewidth=0.8)
    axes.set_xlim(0, 1.15 * max(row["high"] for row in rows))
    axes.set_xlabel("times as fast (median of the pairs, lowest to highest)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(TARGET, dpi=100)


if __name__ == "__main__":
    main()
