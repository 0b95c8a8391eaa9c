"""The outcome of all kill points: chaos.json, a table in Markdown, and on the console."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.lab import Point

_COLUMNS = ("stage", "kind", "injected", "survived", "rows_lost", "rows_repeated", "seconds_lost")


def summary(points: Sequence[Point]) -> list[dict[str, Any]]:
    """One entry per stage and kind; `seconds_lost` is the mean per fault."""
    found = []
    for stage, kind in dict.fromkeys(
        (p.fault.stage, p.fault.kind) for p in sorted(points, key=lambda p: p.fault.number)
    ):
        group = [p for p in points if p.injected and (p.fault.stage, p.fault.kind) == (stage, kind)]
        found.append(
            {
                "stage": stage,
                "kind": kind,
                "injected": len(group),
                "survived": sum(p.survived for p in group),
                "rows_lost": sum(p.difference.lost for p in group),
                "rows_repeated": sum(p.difference.repeated for p in group),
                "seconds_lost": round(sum(p.seconds_lost for p in group) / len(group), 1) if group else None,
            }
        )
    return found


def good(points: Sequence[Point]) -> bool:
    """Every fault fell and was survived, and nothing outlived its command."""
    return bool(points) and all(p.injected and p.survived and not p.leaks for p in points)


def write(points: Sequence[Point], folder: Path) -> None:
    """chaos.json, chaos.md and points.jsonl (every kill point) in `folder`."""
    rows = summary(points)
    (folder / "chaos.json").write_text(json.dumps({"faults": rows}, indent=2) + "\n")
    (folder / "points.jsonl").write_text("".join(json.dumps(asdict(p)) + "\n" for p in points))
    (folder / "chaos.md").write_text(markdown(rows))


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table as it stands in docs/reliability.md."""
    head = (
        "| stage | fault | injected | survived | rows lost | rows repeated | seconds lost per fault "
        "|\n|---|---|---|---|---|---|---|\n"
    )
    return head + "".join("| " + " | ".join(str(row[c]) for c in _COLUMNS) + " |\n" for row in rows)


def show(points: Sequence[Point]) -> None:
    """Prints the table, and every point that was not good."""
    shown = Table(*_COLUMNS)
    for row in summary(points):
        shown.add_row(*(str(row[c]) for c in _COLUMNS))
    Console().print(shown)
    for p in points:
        if not good([p]):
            print(f"{p.fault.number:03d} {line(p)}")


def line(p: Point) -> str:
    """One kill point in one line."""
    ends = ", ".join("at the limit" if code is None else str(code) for code in p.codes)
    verdict = "survived" if p.survived else "not injected" if not p.injected else "NOT SURVIVED"
    other = [
        f"{p.difference.lost} rows lost" if p.difference.lost else "",
        f"{p.difference.repeated} repeated" if p.difference.repeated else "",
    ]
    other += [*p.difference.changed, *(f"left: {leak}" for leak in p.leaks)]
    details = "; ".join(filter(None, other))
    return (
        f"{p.fault.stage} {p.fault.kind} at {p.fault.moment:.0%}: {verdict}, exit codes {ends}, {p.seconds_lost:.0f} "
        f"s lost{'; ' + details if details else ''}"
    )
