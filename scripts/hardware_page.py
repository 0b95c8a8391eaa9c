"""Writes the table of docs/hardware.md from docs/hardware/*.json: `python scripts/hardware_page.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "docs" / "hardware.md"
RESULTS = TARGET.with_suffix("")
BEGIN, END = "<!-- hardware:begin -->", "<!-- hardware:end -->"
_LIBRARIES = ("torch", "transformers", "peft", "deepspeed")
_SPEEDS = {"LoRA": "speed-lora-zero2", "all weights": "speed-all-zero2"}


def page(text: str, results: Sequence[dict[str, Any]]) -> str:
    """`text` with the table of these results between its markers."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return "\n".join([before + BEGIN, *_table(results), END + after])


def read_results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Results in a folder, GPUs first, then by name."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sorted(found, key=lambda result: (result["device"] == "cpu", result["name"]))


def _table(results: Sequence[dict[str, Any]]) -> list[str]:
    speeds = [f"{kind}: tokens/s (fraction of matrix peak)" for kind in _SPEEDS]
    head = ["machine", "date, commit", "libraries", "rows passed", "failed", "not run", "model that is timed", *speeds]
    lines = ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(_cells(result))} |" for result in results]
    for result in results:
        bad = [row for row in result["rows"] if row["status"] in ("fail", "not run")]
        if bad:
            lines += ["", f"Failed or not run on {_machine(result)}:", "", *map(_bad, bad)]
    return [*lines, ""]


def _cells(result: dict[str, Any]) -> list[str]:
    counts = [str(sum(row["status"] == status for row in result["rows"])) for status in ("pass", "fail", "not run")]
    libraries = [f"{name} {result['versions'][name]}" for name in _LIBRARIES if name in result["versions"]]
    values = {row["name"]: row["value"] for row in result["rows"] if row["value"] is not None}
    size = "" if result["num_weights"] is None else f"{result['num_weights'] / 1e9:.3g} G weights"
    speeds = [_speed(values, case) for case in _SPEEDS.values()]
    return [
        _machine(result),
        f"{result['date']}, {result['commit'] or 'unknown'}",
        ", ".join(libraries),
        *counts,
        size,
        *speeds,
    ]


def _machine(result: dict[str, Any]) -> str:
    if result["device"] == "cpu":
        return f"CPU only: {result['name']}, {result['cores']} cores, {result['load']:g} other processes on them"
    return f"{result['name']}, {result['memory_gib']} GiB, driver {result['driver']}, CUDA {result['cuda']}"


def _speed(values: dict[str, float], case: str) -> str:
    speed, fraction = values.get(f"{case}: speed"), values.get(f"{case}: fraction of the matrix peak")
    return "-" if speed is None or fraction is None else f"{speed:,.0f} ({fraction:.1f} %)"


def _bad(row: dict[str, Any]) -> str:
    line = f"- {row['status']}: {row['name']}"
    if row["value"] is not None:
        line += f", {row['value']:.3g} {row['unit']} where at most {row['tolerance']:g} passes"
    return f"{line} ({row['note']})" if row["note"] else line


if __name__ == "__main__":
    TARGET.write_text(page(TARGET.read_text(encoding="utf-8"), read_results()), encoding="utf-8")
