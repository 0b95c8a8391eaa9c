"""Paired measurements: a ratio per pair, results.json and a table."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).with_name("results-gpu.json" if torch.cuda.is_available() else "results.json")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One comparison; `ratio` above 1: ours is better."""

    name: str
    ours: float
    """Median, in `unit`."""
    peer: float
    peer_name: str
    ratio: float
    """Median over the pairs."""
    low: float
    """Smallest ratio of a pair."""
    high: float
    unit: str
    pairs: int


def interleaved(names: Iterable[str], pairs: int) -> Iterator[str]:
    """All names once per pair, each pair beginning with another one."""
    order = tuple(names)
    for pair in range(pairs):
        first = pair % len(order)
        yield from order[first:] + order[:first]


def paired(
    name: str, ours: Sequence[float], peer: Sequence[float], *, peer_name: str, unit: str, more_is_better: bool
) -> Result:
    """Compares interleaved measurements: `ours[i]` next to the baseline's `peer[i]`."""
    ratios = [o / p if more_is_better else p / o for o, p in zip(ours, peer, strict=True)]
    return Result(
        name=name,
        ours=statistics.median(ours),
        peer=statistics.median(peer),
        peer_name=peer_name,
        unit=unit,
        pairs=len(ratios),
        ratio=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
    )


def record(results: Sequence[Result]) -> None:
    """Puts results into results.json, in place of all earlier ones of their names and of another machine's, and prints
    them as Markdown."""
    here, stored = machine(), json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept: list[dict[str, Any]] = stored["results"] if stored.get("machine") == here else []
    new = {r.name for r in results}
    rows = [row for row in kept if row["name"] not in new] + [asdict(r) for r in results]
    RESULTS.write_text(json.dumps({"machine": here, "results": rows}, indent=2) + "\n")
    print(markdown([asdict(r) for r in results]), flush=True)


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table of some results."""
    head = (
        "| measured | unit | paft_ray | baseline | | ratio | lowest to highest | pairs "
        "|\n|---|---|---|---|---|---|---|---|\n"
    )
    lines = [
        f"| {r['name']} | {r['unit']} | {r['ours']:.3g} | {r['peer']:.3g} | {r['peer_name']} "
        f"| {r['ratio']:.2f} | {r['low']:.2f} to {r['high']:.2f} | {r['pairs']} |"
        for r in rows
    ]
    return head + "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo")
    models = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {
        "cpu": models[0] if models else platform.processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **gpu,
    }
